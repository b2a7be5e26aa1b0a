/**
 * Files and folders on disk, for Node: reading by range, writing so that a crash never leaves half a file under a final name.
 * @module
 */
export {
  createFolder,
  type FolderWriter,
  isRunning,
  type PlaceOpts,
  removePartials,
  type WriteFileOpts,
  writeFileAtomic,
} from './_node/atomic.js';
export { type WriteGgufFileOpts, writeGgufFile } from './_node/gguf-parts.js';
export { folderSource, openCheckpoint, readFileText, readFolderText } from './_node/open.js';
export { type WriteShardsOpts, type WrittenShards, writeShards } from './_node/shards.js';
export { fileSource } from './_node/source.js';
