/**
 * `npm run build`, second half: makes `program/` of what tsc wrote to `dist/`: the command line and the packet threads, each in one
 * file or few, with the libraries they use and without white space. Node takes about a millisecond to find, read and link a module
 * file, and an agent would need four hundred of them in its two threads before its first packet; what it holds of them in memory is
 * their text.
 *
 *   program/cli/main.js              the command line (package.json's bin), cli/demo.js beside it
 *   program/chunks/                  what commands load when they are called
 *   program/ROLE/packet-thread.js    one file for each thread: packet threads, and the one that makes certificate requests
 *   program/LICENSES.txt             the licences of the libraries within
 *
 * Every file is one folder deep, as those of `dist` that name others by `import.meta.url` are, and names stay those of the sources.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { root } from './native.mjs';

const compiled = join(root, 'dist');
const program = join(root, 'program');
const PACKET_THREADS = ['relay', 'connector', 'agent', 'tun2socks'].map((role) => `${role}/packet-thread`);
const THREADS = [...PACKET_THREADS, 'node/csr-thread'];
const COMMANDS = ['cli/main', 'cli/demo'];

/** Libraries that stay outside: koffi finds its binary by its own place. */
const EXTERNAL = ['koffi'];

/** A module goes on naming files from where it was, though its code lies in another file now. */
const places = {
  name: 'places',
  transform(code, id) {
    if (id.includes('node_modules') || !code.includes('import.meta.url')) return null;
    const place = `new URL(${JSON.stringify(`../${relative(compiled, id)}`)}, import.meta.url).href`;
    return { code: code.replaceAll('import.meta.url', place) };
  },
};

/** A text beyond Latin-1 is held with two bytes a character. To be done last: what writes the code puts characters for escapes. */
const ascii = (code) =>
  code.replace(/[^\0-\x7f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Names and code as they are, for stack traces and profiles: only white space and comments go. */
const minify = { compress: false, mangle: false, codegen: { removeWhitespace: true } };

/** The files of one bundle, by name, and the modules in them. */
async function bundle(rolldown, inputs, output) {
  const build = await rolldown({
    input: Object.fromEntries(inputs.map((name) => [name, join(compiled, `${name}.js`)])),
    platform: 'node',
    external: EXTERNAL,
    plugins: [places],
    onLog: (level, log) => {
      if (level === 'warn') throw new Error(log.message);
    },
  });
  const { output: chunks } = await build.generate({
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'chunks/[name]-[hash].js',
    minify,
    ...output,
  });
  await build.close();
  return chunks.map((chunk) => ({ ...chunk, code: ascii(chunk.code) }));
}

/** Package folder of a module among the libraries: the innermost one. */
function packageOf(id) {
  const at = id.lastIndexOf(`${sep}node_modules${sep}`) + `${sep}node_modules${sep}`.length;
  const [scope, name] = id.slice(at).split(sep);
  return id.slice(0, at) + (scope.startsWith('@') ? join(scope, name) : scope);
}

/** Names, versions and licences of the libraries that these modules are of. */
function licences(modules) {
  const folders = new Set(modules.filter((id) => id.includes(`${sep}node_modules${sep}`)).map(packageOf));
  const texts = [...folders].map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    if (file === undefined && license === undefined) throw new Error(`${folder} says nothing of its licence`);
    return `${name} ${version} (${license})\n\n${file === undefined ? '' : readFileSync(join(folder, file), 'utf8').trim()}\n`;
  });
  return `Libraries within this program, and their licences.\n\n${texts.sort().join(`\n${'-'.repeat(80)}\n\n`)}`;
}

/** Writes what differs, each file at once, so that a program which runs meanwhile finds whole ones; removes what is no more. */
function write(files) {
  for (const [name, text] of files) {
    const path = join(program, name);
    if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.new`, text);
    if (text.startsWith('#!')) chmodSync(`${path}.new`, 0o755);
    renameSync(`${path}.new`, path);
  }
  for (const entry of readdirSync(program, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && !files.has(relative(program, path).split(sep).join('/'))) rmSync(path);
  }
}

/** Bundles what is compiled. @throws Error when a module is missing or has no licence. */
async function makeProgram() {
  const { rolldown } = await import('rolldown');
  const chunks = [...(await bundle(rolldown, COMMANDS, {}))];
  for (const thread of THREADS) chunks.push(...(await bundle(rolldown, [thread], { codeSplitting: false })));
  const modules = chunks.flatMap((chunk) => chunk.moduleIds);
  const files = new Map(chunks.map((chunk) => [chunk.fileName, chunk.code]));
  write(files.set('LICENSES.txt', licences(modules)));
}

await makeProgram();
