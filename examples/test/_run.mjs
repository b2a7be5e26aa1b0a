// Runs the examples named on the command line one after another in one process, with a line before each.
for (const file of process.argv.slice(2)) {
  console.log(`# ${file}`);
  await import(new URL(`../${file}`, import.meta.url).href);
}
