// Compiles assembly/index.ts to WebAssembly and writes it, as base64 text, into src/generated/: one file per variant. The same sources
// give the same bytes.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Variants and the features they need. */
const VARIANTS = { simd128: ['simd'], relaxed: ['simd', 'relaxed-simd'] };

for (const [variant, features] of Object.entries(VARIANTS)) {
  let bytes;
  const { error, stderr } = await asc.main(
    [
      `assembly/${variant === 'relaxed' ? 'relaxed' : 'index'}.ts`,
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
  if (variant === 'simd128' && !WebAssembly.validate(bytes)) throw new Error(`the ${variant} module does not validate`);
  const out = `${root}/src/generated`;
  mkdirSync(out, { recursive: true });
  const text = Buffer.from(bytes).toString('base64');
  writeFileSync(
    `${out}/${variant}.ts`,
    `/**\n * The kernels of assembly/, compiled (${bytes.length} bytes, base64). Written by assembly/build.mjs.\n * @module\n */\nexport const WASM_${variant.toUpperCase()} =\n  '${text}';\n`,
  );
  console.log(`src/generated/${variant}.ts: ${bytes.length} bytes of WebAssembly`);
}
