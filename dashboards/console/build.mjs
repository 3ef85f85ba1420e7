// Bundles src/ into dist/: index.html, the icon, one script and one style sheet. The names of those in
// assets/ hold a hash of their contents, so browsers may keep them for ever.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";

const GZIP_BYTES_MAX = 80 * 1024;
const dist = new URL("dist/", import.meta.url).pathname;

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });

const { metafile } = await build({
  entryPoints: ["src/main.tsx"],
  absWorkingDir: new URL(".", import.meta.url).pathname,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "assets/console-[hash]",
  outdir: dist,
  metafile: true,
  legalComments: "none",
});

const built = (extension) => {
  const path = Object.keys(metafile.outputs).find((output) => output.endsWith(extension));
  return `assets/${basename(path)}`;
};
const page = await readFile(new URL("src/index.html", import.meta.url), "utf8");
await writeFile(
  join(dist, "index.html"),
  page
    .replace("SCRIPT", built(".js"))
    .replace("STYLE", built(".css")),
);
await copyFile(new URL("src/icon.svg", import.meta.url), join(dist, "icon.svg"));

let bytes = 0;
for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
  if (entry.isFile()) {
    bytes += gzipSync(await readFile(join(entry.parentPath ?? entry.path, entry.name)), { level: 9 }).length;
  }
}
console.log(`the console's page is ${(bytes / 1024).toFixed(1)} KB with gzip, of ${GZIP_BYTES_MAX / 1024} KB allowed`);
if (bytes > GZIP_BYTES_MAX) process.exit(1);
