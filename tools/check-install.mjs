// Installs the packed packages together with npm into a fresh folder and uses them there the ways people do:
// - an ES module project runs each README's example, and prints what the example's comments say;
// - a CommonJS project runs the same examples with `require`, and finds the same names in every entry as `import` does;
// - TypeScript projects type-check the examples and every entry, strictly, the packages' own declarations included (`skipLibCheck` off),
//   under "nodenext" (as ES module and as CommonJS), "bundler", and "bundler" without Node's types, as for a browser;
// - every entry loads, and the examples of packages for browsers run, where code from strings is forbidden;
// - the command `lmq` answers.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { bin, entries, example, pack, root, run, runJobs } from './shared.mjs';

const NO_EVAL = '--disallow-code-generation-from-strings';
/** Their examples use no files, so they must run under a content-security policy too. */
const FOR_BROWSERS = ['tensor', 'formats', 'kernels-js', 'kernels-wasm', 'quant-core', 'equalize', 'gptq'];
/** Entries that touch files: not for a project without Node's types. */
const needsNode = (entry) => entry === 'lmq' || entry.endsWith('/node');

/** Fails unless every entry gives the same names to `require` and to `import`. A CommonJS script; the entries are its arguments. */
const SAME_NAMES = `
(async () => {
  for (const entry of process.argv.slice(2)) {
    const required = Object.keys(require(entry)).sort().join();
    const imported = Object.keys(await import(entry)).sort().join();
    if (required !== imported) throw new Error(entry + ': require finds ' + required + '; import finds ' + imported);
    if (!required && !/.\\//.test(entry.replace(/^@lmq\\//, ''))) throw new Error(entry + ' exports nothing');
  }
})();
`;

function transpile(code, module) {
  return ts.transpileModule(code, { compilerOptions: { module, target: ts.ScriptTarget.ES2022, esModuleInterop: true } }).outputText;
}

/** Writes a file into a folder of its own inside a project; returns the folder. */
function place(project, folder, file, text) {
  const dir = join(project, folder);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, file), text);
  return dir;
}

async function runExample(dir, file, flags, prints) {
  const lines = (await run(process.execPath, [...flags, file], { cwd: dir })).split('\n');
  for (const line of prints) if (!lines.includes(line)) throw new Error(`the example in ${dir} does not print "${line}"`);
}

/** The jobs of the JavaScript projects. */
function scriptJobs(projects, packed) {
  const jobs = [];
  const { esm, cjs } = projects;
  for (const { folder, readme } of packed) {
    const { code, prints } = example(readme);
    if (!code) throw new Error(`packages/${folder}/README.md has no example`);
    const esmDir = place(esm, folder, 'example.js', transpile(code, ts.ModuleKind.ESNext));
    // CommonJS has no top-level await
    const body = `(async () => {\n${transpile(code, ts.ModuleKind.CommonJS)}\n})();\n`;
    const cjsDir = place(cjs, folder, 'example.js', body);
    jobs.push({ name: `${folder}, README example, ES module`, run: () => runExample(esmDir, 'example.js', [], prints) });
    jobs.push({ name: `${folder}, README example, CommonJS`, run: () => runExample(cjsDir, 'example.js', [], prints) });
    if (FOR_BROWSERS.includes(folder)) {
      jobs.push({
        name: `${folder}, README example, no code from strings`,
        run: () => runExample(esmDir, 'example.js', [NO_EVAL], prints),
      });
    }
  }
  writeFileSync(join(cjs, 'same-names.js'), SAME_NAMES);
  const all = packed.flatMap(entries);
  jobs.push({ name: 'require and import', run: () => run(process.execPath, [NO_EVAL, 'same-names.js', ...all], { cwd: cjs }) });
  return jobs;
}

/** The jobs of the TypeScript projects. */
function typeJobs(folder, packed) {
  const importAll = (names) =>
    `${names.map((n, i) => `import * as m${i} from '${n}';`).join('\n')}\nexport const all = [${names.map((_, i) => `m${i}`)}];\n`;
  const all = packed.flatMap(entries);
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'all.ts'), importAll(all));
  writeFileSync(join(folder, 'all.cts'), importAll(all));
  writeFileSync(join(folder, 'browser.ts'), importAll(all.filter((e) => !needsNode(e))));
  for (const { folder: name, readme } of packed) writeFileSync(join(folder, `example-${name}.ts`), example(readme).code);
  const examples = packed.map(({ folder: name }) => `example-${name}.ts`);

  const variants = {
    nodenext: { module: 'nodenext', types: ['node'], files: ['all.ts', 'all.cts', ...examples] },
    bundler: { module: 'esnext', moduleResolution: 'bundler', types: ['node'], files: ['all.ts', ...examples] },
    // Scope is Disposable, which the "es2022" library does not know
    browser: {
      module: 'esnext',
      moduleResolution: 'bundler',
      types: [],
      lib: ['es2022', 'esnext.disposable', 'dom'],
      files: ['browser.ts'],
    },
  };
  return Object.entries(variants).map(([name, { files, ...options }]) => {
    const config = { compilerOptions: { target: 'es2022', strict: true, skipLibCheck: false, noEmit: true, ...options }, files };
    writeFileSync(join(folder, `tsconfig.${name}.json`), JSON.stringify(config));
    return {
      name: `TypeScript, ${name}`,
      run: () => run(bin('tsc'), ['-p', `tsconfig.${name}.json`, '--pretty', 'false'], { cwd: folder }),
    };
  });
}

/** Checks packages as `pack` returns them; prints failures and returns how many there were. */
export async function checkInstall(packed) {
  const started = performance.now();
  const home = mkdtempSync(join(tmpdir(), 'lmq-install-'));
  try {
    writeFileSync(join(home, 'package.json'), '{ "private": true }');
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
    // --prefix: run below another package manager, npm would take that one's folder
    await run('npm', ['install', '--prefix', home, ...flags, ...packed.map((p) => p.tarball)], { cwd: home });
    const installed = readdirSync(join(home, 'node_modules'));
    if (installed.includes('typescript')) throw new Error('the packages bring the compiler along');
    // what a TypeScript project on Node has besides; the packages must not bring it
    const types = join(home, 'node_modules', '@types', 'node');
    mkdirSync(join(home, 'node_modules', '@types'), { recursive: true });
    symlinkSync(join(root, 'node_modules', '@types', 'node'), types, 'dir');

    const projects = { esm: join(home, 'esm'), cjs: join(home, 'cjs'), types: join(home, 'types') };
    for (const dir of Object.values(projects)) mkdirSync(dir);
    writeFileSync(join(projects.esm, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(projects.cjs, 'package.json'), '{}');
    const jobs = [
      ...typeJobs(projects.types, packed), // the longest ones first
      ...scriptJobs(projects, packed),
      {
        name: 'the command lmq',
        run: async () => {
          const command = join(home, 'node_modules', '.bin', 'lmq');
          JSON.parse(await run(command, ['inspect', 'lmq-nano', '--json'], { cwd: projects.cjs }));
        },
      },
    ];
    const failed = await runJobs(jobs);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.log(
      `installed ${packed.length} packages (${packed.flatMap(entries).length} entries): ${jobs.length - failed} of ${jobs.length} checks passed, ${seconds} s`,
    );
    return failed;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const out = mkdtempSync(join(tmpdir(), 'lmq-pack-'));
  try {
    process.exitCode = (await checkInstall(pack(out))) ? 1 : 0;
  } finally {
    rmSync(out, { recursive: true });
  }
}
