// What the checks of the published packages share: packing, running programs side by side, and the examples in READMEs.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root, with a slash at its end. */
export const root = fileURLToPath(new URL('../', import.meta.url));

/** A program of the repository's development dependencies. */
export const bin = (name) => join(root, 'node_modules', '.bin', name);

/** Every package: its folder's name, its manifest and its README. */
export function packages() {
  return readdirSync(join(root, 'packages'))
    .sort()
    .filter((folder) => existsSync(join(root, 'packages', folder, 'package.json')))
    .map((folder) => {
      const dir = join(root, 'packages', folder);
      return {
        folder,
        dir,
        manifest: JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')),
        readme: readFileSync(join(dir, 'README.md'), 'utf8'),
      };
    });
}

/** Packs every package into `out` as it would be published; adds each one's `tarball`. */
export function pack(out) {
  const args = ['--yes', 'pnpm@12.21.0', '-r', '--filter', './packages/*', 'pack', '--pack-destination', out];
  execFileSync('npx', args, { cwd: root, stdio: 'pipe' });
  return packages().map((p) => {
    const file = `${p.manifest.name.replace('@', '').replace('/', '-')}-${p.manifest.version}.tgz`;
    return { ...p, tarball: join(out, file) };
  });
}

/** Names a package can be imported by: `@lmq/formats`, `@lmq/formats/packing`, … */
export const entries = ({ manifest }) =>
  Object.keys(manifest.exports)
    .filter((path) => path !== './package.json')
    .map((path) => manifest.name + path.slice(1));

/** The first TypeScript example of a README, and the lines that its comments say it prints. */
export function example(readme) {
  const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  return { code, prints: [...code.matchAll(/^console\.log\(.*\/\/ → (.*)$/gm)].map(([, said]) => said) };
}

/** Runs a program to its end and returns its standard output; the error of a failure holds all that it wrote. */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let all = '';
    child.stdout.on('data', (text) => {
      out += text;
      all += text;
    });
    child.stderr.on('data', (text) => {
      all += text;
    });
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve(out) : reject(new Error(all.trim() || `${command} ended with ${code}`))));
  });
}

/** Runs named jobs, as many at once as there are processors; prints each failure and returns how many there were. */
export async function runJobs(jobs) {
  const queue = [...jobs];
  let failed = 0;
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      try {
        await job.run();
      } catch (e) {
        failed++;
        console.error(`${job.name}: ${e.message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return failed;
}
