// `npm run build`, second half: the command line as one file, with its packages and their dependencies in it.

import { chmodSync, cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type Plugin, build } from "rolldown";

const cli = join(import.meta.dirname, "../packages/cli");
const bundles = [
  { input: join(cli, "src/main.ts"), file: join(cli, "dist/cli.js"), banner: "#!/usr/bin/env node" },
  // What a process of its own begins with; the compiler's own output of that source is no bundle.
  { input: join(cli, "src/child.ts"), file: join(cli, "dist/program.js"), banner: "" },
];

/**
 * Node's own modules are fetched where a module that uses them begins. An `import` of the bundle would load all of
 * them before its first line, also those of commands that nobody has called.
 */
const nodeModules: Plugin = {
  name: "node-modules",
  resolveId: {
    filter: { id: /^node:/ },
    // The bundler's own runtime is there before any module can be.
    handler: (id, importer) =>
      importer?.startsWith("\0") === true ? { id, external: true } : { id: `\0${id}`, moduleSideEffects: false },
  },
  load: {
    filter: { id: /^\0node:/ },
    handler: (id) => {
      const name = id.slice(1);
      const names = Object.keys(process.getBuiltinModule(name) ?? {}).filter((key) => /^[A-Za-z]\w*$/.test(key));
      return [
        `const it = process.getBuiltinModule(${JSON.stringify(name)});`,
        "export default it;",
        ...names.filter((key) => key !== "default").map((key) => `export const ${key} = it.${key};`),
      ].join("\n");
    },
  },
};

for (const { input, file, banner } of bundles) {
  rmSync(file, { force: true });
  await build({
    input,
    platform: "node",
    resolve: { conditionNames: ["@ergos/source", "node", "import"] },
    // A program's own `import … from "ergos"` finds the library, not this bundle.
    // Provider packages are optional: whoever uses one installs it.
    external: [/^@ai-sdk\//, /^@cedar-policy\//, "just-bash"],
    plugins: [nodeModules],
    treeshake: { propertyReadSideEffects: false },
    output: {
      file,
      format: "esm",
      // Names and lines stay for whoever reads a trace. Text of one byte a character is read in half the time.
      minify: { compress: true, mangle: false, codegen: { removeWhitespace: false, asciiOnly: true } },
      comments: { legal: true, annotation: false, jsdoc: false },
      banner,
      codeSplitting: false,
    },
    logLevel: "warn",
  });
  chmodSync(file, 0o755);
  console.log(`build: ${relative(process.cwd(), file)}, ${Math.round(statSync(file).size / 1024)} KiB`);
}

// What `ergos explain` says of errors.
cpSync(join(import.meta.dirname, "../docs/errors.md"), join(cli, "dist/errors.md"));

// What every package carries along: its licence, and what it is.
const root = join(import.meta.dirname, "..");
for (const name of readdirSync(join(root, "packages"))) {
  const folder = join(root, "packages", name);
  cpSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  // Written by us, in each package.
  const { name: known, description } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
    readonly name: string;
    readonly description: string;
  };
  const text = `# ${known}\n\n${description}\n\nA part of ErgOS, an operating system for AI agents; the package \`ergos\` has its command line, its library and its README.\n`;
  if (name === "cli") cpSync(join(root, "README.md"), join(folder, "README.md"));
  else writeFileSync(join(folder, "README.md"), text);
}
