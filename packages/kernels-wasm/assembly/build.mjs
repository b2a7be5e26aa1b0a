// Compiles the modules of assembly/ to WebAssembly and writes them, as base64 text, into src/generated/: the kernels in two variants, and the
// encoders of blocks. The same sources give the same bytes.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Modules, what is compiled, and the features they need. */
const MODULES = {
  simd128: ['index', 'simd'],
  relaxed: ['relaxed', 'simd', 'relaxed-simd'],
  encoders: ['encodeBlocks', 'simd'],
};

for (const [name, [source, ...features]] of Object.entries(MODULES)) {
  let bytes;
  const { error, stderr } = await asc.main(
    [
      `assembly/${source}.ts`,
      '--baseDir',
      root,
      '--outFile',
      'kernels.wasm',
      '--runtime',
      'stub',
      '--importMemory',
      '--maximumMemory',
      '65535', // pages: an import with a maximum can be turned into one of shared memory (module.ts)
      '--noAssert',
      '-O3',
      ...features.flatMap((f) => ['--enable', f]),
    ],
    {
      writeFile: (_name, contents) => {
        bytes = contents;
      },
    },
  );
  if (error) {
    process.stderr.write(`${stderr.toString()}\n${error.message}\n`);
    process.exit(1);
  }
  // Older engines than the build's need not know relaxed SIMD.
  if (!features.includes('relaxed-simd') && !WebAssembly.validate(bytes)) throw new Error(`the ${name} module does not validate`);
  const out = `${root}/src/generated`;
  mkdirSync(out, { recursive: true });
  const text = Buffer.from(bytes).toString('base64');
  writeFileSync(
    `${out}/${name}.ts`,
    `/**\n * The kernels of assembly/, compiled (${bytes.length} bytes, base64). Written by assembly/build.mjs.\n * @module\n */\nexport const WASM_${name.toUpperCase()} =\n  '${text}';\n`,
  );
  console.log(`src/generated/${name}.ts: ${bytes.length} bytes of WebAssembly`);
}
