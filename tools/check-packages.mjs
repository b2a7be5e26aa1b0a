// Packs every package as it would be published and checks the tarball: publint (the manifest and the files agree), "are the types wrong"
// (each entry resolves with its types from CommonJS and ES modules), and that no workspace: range is left.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const only = process.argv.slice(2);
const out = mkdtempSync(join(tmpdir(), 'lmq-pack-'));
const pnpm = ['--yes', 'pnpm@12.21.0'];
const bin = (name) => join('node_modules', '.bin', name);
let failed = 0;

for (const folder of readdirSync('packages').sort()) {
  if (only.length && !only.includes(folder)) continue;
  const dir = join('packages', folder);
  try {
    execFileSync('npx', [...pnpm, '-C', dir, 'pack', '--pack-destination', out], { stdio: 'pipe' });
    const tarball = join(
      out,
      readdirSync(out).find((f) => f.endsWith('.tgz')),
    );
    const manifest = execFileSync('tar', ['-xOzf', tarball, 'package/package.json'], { encoding: 'utf8' });
    if (manifest.includes('workspace:')) throw new Error('the tarball still has a workspace: range');
    execFileSync(bin('publint'), [tarball, '--strict'], { stdio: 'pipe' });
    // node10 does not know "exports", so subpaths cannot resolve there; engines ask for Node 20
    execFileSync(bin('attw'), [tarball, '--profile', 'node16', '--format', 'ascii'], { stdio: 'pipe' });
    console.log(`${JSON.parse(manifest).name}: ${Math.round(readFileSync(tarball).length / 1024)} kB packed`);
    rmSync(tarball);
  } catch (e) {
    failed++;
    console.error(`${folder}: ${e.stdout ?? ''}${e.stderr ?? ''}${e.stdout || e.stderr ? '' : e.message}`);
    for (const f of readdirSync(out)) rmSync(join(out, f));
  }
}
rmSync(out, { recursive: true });
process.exit(failed ? 1 : 0);
