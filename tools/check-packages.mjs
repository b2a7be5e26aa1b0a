// Packs every package as it would be published and checks the tarballs: publint (the manifest and the files agree), "are the types wrong"
// (each entry resolves with its types from CommonJS and ES modules), that no workspace: range is left, and that all of them install and
// work in fresh projects (check-install.mjs). Folder names as arguments: only these, without the installation.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkInstall } from './check-install.mjs';
import { bin, pack, run, runJobs } from './shared.mjs';

const only = process.argv.slice(2);
const out = mkdtempSync(join(tmpdir(), 'lmq-pack-'));

async function checkTarball({ manifest, tarball }) {
  const packed = execFileSync('tar', ['-xOzf', tarball, 'package/package.json'], { encoding: 'utf8' });
  if (packed.includes('workspace:')) throw new Error('the tarball still has a workspace: range');
  await run(bin('publint'), [tarball, '--strict']);
  // node10 does not know "exports", so subpaths cannot resolve there; engines ask for Node 20
  await run(bin('attw'), [tarball, '--profile', 'node16', '--format', 'ascii']);
  console.log(`${manifest.name}: ${Math.round(statSync(tarball).size / 1024)} kB packed`);
}

try {
  const packed = pack(out);
  const chosen = packed.filter((p) => !only.length || only.includes(p.folder));
  let failed = await runJobs(chosen.map((p) => ({ name: p.folder, run: () => checkTarball(p) })));
  if (!only.length) failed += await checkInstall(packed);
  process.exitCode = failed ? 1 : 0;
} finally {
  rmSync(out, { recursive: true });
}
