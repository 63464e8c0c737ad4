// `ergos validate`, `lint`, `plan`, `graph`, `explain`, `schema`: manifests, without running anything.

import { join, relative } from "node:path";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import {
  type Compilation,
  DIAGNOSTICS,
  type Diagnostic,
  type PlanDocument,
  explain,
  formatDiagnostic,
  manifestJsonSchema,
  maskSecrets,
  secretValues,
  toManifest,
  toMermaid,
  toSvg,
} from "@ergos/compiler";
import { isErrno, isKernelError } from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  EXIT_USAGE,
  type Invocation,
  UsageError,
  isSet,
  required,
  textOption,
} from "../command.ts";
import { compileFile, pipelineOf } from "../manifest-file.ts";
import { type Output, table } from "../terminal.ts";

export const validateCommand: Command = {
  name: "validate",
  summary: "check manifests and start nothing; every fault with its place and a hint",
  usage: "<manifest>...",
  examples: ["ergos validate pipeline.yaml", "ergos validate pipelines/*.yaml --json"],
  run: (invocation) => Promise.resolve(check(invocation, false)),
};

export const lintCommand: Command = {
  name: "lint",
  summary: "check manifests and what is unwise in them",
  usage: "<manifest>... [--disable CODE]... [--strict]",
  examples: ["ergos lint pipeline.yaml", "ergos lint pipeline.yaml --disable W201 --strict"],
  options: { disable: { type: "string", multiple: true }, strict: { type: "boolean" } },
  run: (invocation) => Promise.resolve(check(invocation, true)),
};

/** Exit status: 0 fine, 1 errors (with `--strict` also warnings), 2 a file that cannot be read. */
function check(invocation: Invocation, lint: boolean): number {
  required(invocation, 0, "the manifest");
  const { out } = invocation;
  const disabled = new Set(
    invocation.values["disable"] === undefined ? [] : [invocation.values["disable"]].flat().map(String),
  );
  let status = EXIT_OK;
  const answers: { file: string; ok: boolean; pipelines: readonly string[]; diagnostics: readonly Diagnostic[] }[] = [];
  const unreadable: { file: string; ok: false; error: { code: string; message: string } }[] = [];
  for (const file of invocation.positionals) {
    let compiled: Compilation;
    try {
      compiled = compileFile(file, { lint });
    } catch (error) {
      if (!isKernelError(error)) throw error;
      if (out.isJson) unreadable.push({ file, ok: false, error: { code: error.code, message: error.message } });
      else out.error(out.style("red", error.message));
      status = EXIT_USAGE;
      continue;
    }
    // An error keeps a manifest from running, whatever somebody would rather not see.
    const diagnostics = compiled.diagnostics.filter(
      ({ code, severity }) => severity === "error" || !disabled.has(code),
    );
    const isBad =
      compiled.hasErrors ||
      diagnostics.some(
        ({ severity }) => severity === "error" || (severity === "warning" && isSet(invocation, "strict")),
      );
    if (isBad && status === EXIT_OK) status = EXIT_FAILED;
    answers.push({ file, ok: !isBad, pipelines: compiled.plans.map(({ name }) => name), diagnostics });
  }
  if (out.isJson) out.answer([...answers, ...unreadable], String);
  else for (const answer of answers) out.line(checkText(answer, out));
  return status;
}

function checkText(
  {
    file,
    ok,
    pipelines,
    diagnostics,
  }: { file: string; ok: boolean; pipelines: readonly string[]; diagnostics: readonly Diagnostic[] },
  out: Output,
): string {
  const shown = diagnostics.map((one) => coloured(one, out));
  const counts = (["error", "warning", "info"] as const).flatMap((severity) => {
    const count = diagnostics.filter((one) => one.severity === severity).length;
    return count === 0 ? [] : [`${count} ${severity}${count === 1 || severity === "info" ? "" : "s"}`];
  });
  const verdict = ok
    ? `${out.style("green", "✓")} ${[`${file}: ${pipelines.join(", ") || "a policy"}`, ...counts].join(", ")}`
    : `${out.style("red", "✗")} ${file}: ${counts.join(", ")}`;
  return [...shown, verdict].join("\n");
}

function coloured(one: Diagnostic, out: Output): string {
  const colour = one.severity === "error" ? "red" : one.severity === "warning" ? "yellow" : "blue";
  return formatDiagnostic(one).replace(`${one.severity} ${one.code}`, out.style(colour, `${one.severity} ${one.code}`));
}

export const planCommand: Command = {
  name: "plan",
  arguments: 1,
  summary: "show what a manifest or a module compiles to",
  usage: "<manifest | module> [--pipeline NAME] [--yaml]",
  examples: [
    "ergos plan pipeline.yaml",
    "ergos plan pipeline.yaml --json",
    "ergos plan examples/retry/retry.ts --yaml",
  ],
  options: { pipeline: { type: "string" }, yaml: { type: "boolean" } },
  run: async (invocation) => {
    const plan = await planOf(invocation);
    if (isSet(invocation, "yaml")) {
      const yaml = toManifest(plan, (module) => {
        const near = relative(plan.here, module);
        return near.startsWith(".") ? near : `./${near}`;
      });
      invocation.out.answer({ yaml }, ({ yaml: text }) => text);
    } else {
      invocation.out.answer(plan, planText);
    }
    return EXIT_OK;
  },
};

/** The plan of a manifest, or of a pipeline in a module. */
async function planOf(invocation: Invocation): Promise<PlanDocument> {
  const { findModule, describeModule, isManifestFile } = await import("../module-program.ts");
  const file = findModule(required(invocation, 0, "the manifest or module"), process.cwd());
  const pipeline = textOption(invocation, "pipeline");
  const source = { module: file, ...(pipeline === undefined ? {} : { export: pipeline }) };
  const plan = isManifestFile(file) ? pipelineOf(source).document : await describeModule(source);
  return masked(plan, secretValues(process.env)) as PlanDocument;
}

/** Values of the environment never get into a plan; what stands in the manifest itself is masked. */
function masked(value: unknown, secrets: readonly string[]): unknown {
  if (typeof value === "string") return maskSecrets(value, secrets);
  if (Array.isArray(value)) return value.map((item) => masked(item, secrets));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]: [string, unknown]) => [name, masked(inner, secrets)]),
  );
}

function planText(plan: PlanDocument): string {
  const rows = plan.nodes.map(({ name, kind, needs, after, when, at }) => [
    name,
    kind,
    needs.join(", ") || "-",
    [...after.map((one) => `after ${one}`), ...(when === undefined ? [] : [`when ${when}`])].join(", "),
    at,
  ]);
  return `${plan.name}: ${plan.nodes.length} nodes\n${table([["NODE", "KIND", "READS", "ALSO", "AT"], ...rows])}`;
}

export const graphCommand: Command = {
  name: "graph",
  arguments: 1,
  summary: "draw a pipeline, as Mermaid or SVG",
  usage: "<manifest | module> [--pipeline NAME] [--format mermaid|svg] [--output FILE]",
  examples: ["ergos graph pipeline.yaml", "ergos graph pipeline.yaml --format svg --output pipeline.svg"],
  options: { pipeline: { type: "string" }, format: { type: "string" }, output: { type: "string", short: "o" } },
  run: async (invocation) => {
    const output = textOption(invocation, "output");
    const format = textOption(invocation, "format") ?? (output?.endsWith(".svg") === true ? "svg" : "mermaid");
    if (format !== "mermaid" && format !== "svg")
      throw new UsageError(`--format takes mermaid or svg, found ${JSON.stringify(format)}`);
    const plan = await planOf(invocation);
    const text = format === "svg" ? toSvg(plan) : toMermaid(plan);
    if (output !== undefined) writeFileSync(output, text);
    invocation.out.answer({ format, ...(output === undefined ? { text } : { file: output }) }, () =>
      output === undefined ? text : `${plan.name}: ${output}`,
    );
    return EXIT_OK;
  },
};

/** What docs/errors.md says of a code; the command line carries a copy along. */
function errnoHelp(code: string): string | undefined {
  const here = import.meta.dirname;
  const file = [join(here, "errors.md"), join(here, "../../../../docs/errors.md")].find((one) => existsSync(one));
  const sections = file === undefined ? [] : readFileSync(file, "utf8").split(/^## /mu);
  return sections
    .find((section) => section.startsWith(`${code}\n`))
    ?.slice(code.length)
    .trim();
}

export const explainCommand: Command = {
  name: "explain",
  arguments: 1,
  summary: "tell what a field of a manifest is, or the code of a diagnostic or an error",
  usage: "[pipeline[.field]... | policy[.field]... | CODE]",
  examples: [
    "ergos explain pipeline",
    "ergos explain pipeline.spec.nodes.llm",
    "ergos explain pipeline.spec.nodes.retry",
    "ergos explain policy.spec.rules",
    "ergos explain EUNKNOWN",
  ],
  run: (invocation) => {
    const path = invocation.positionals[0] ?? "pipeline";
    const diagnostic = Object.entries(DIAGNOSTICS).find(([code]) => code === path.toUpperCase());
    if (diagnostic !== undefined) {
      const [code, [severity, title]] = diagnostic;
      invocation.out.answer({ code, severity, title }, () => `${code}  ${severity}: ${title}`);
      return Promise.resolve(EXIT_OK);
    }
    const help = isErrno(path.toUpperCase()) ? errnoHelp(path.toUpperCase()) : undefined;
    if (help !== undefined) {
      const code = path.toUpperCase();
      invocation.out.answer({ code, help }, () => `${invocation.out.style("bold", code)}  ${help}`);
      return Promise.resolve(EXIT_OK);
    }
    const found = explain(path);
    if ("unknown" in found)
      throw new UsageError(`there is no field ${found.unknown}${found.hint === undefined ? "" : `; ${found.hint}`}`);
    invocation.out.answer(found, ({ type, required: isRequired, doc, otherwise, example, fields }) =>
      [
        `${invocation.out.style("bold", found.path)}  ${type}${isRequired ? ", required" : ""}`,
        "",
        doc,
        ...(otherwise === undefined ? [] : [`Default: ${otherwise}.`]),
        ...(example === undefined ? [] : [`Example: ${example}`]),
        ...(fields.length === 0
          ? []
          : [
              "",
              table(
                fields.map((field) => [
                  `  ${field.name}${field.required ? "*" : ""}`,
                  field.type,
                  field.otherwise === undefined ? field.doc : `${field.doc} Default: ${field.otherwise}.`,
                ]),
              ),
            ]),
      ].join("\n"),
    );
    return Promise.resolve(EXIT_OK);
  },
};

export const schemaCommand: Command = {
  name: "schema",
  arguments: 0,
  summary: "print the JSON Schema of manifests, for editors",
  usage: "[--kind pipeline|policy] [--output FILE]",
  examples: [
    "ergos schema --output ergos.schema.json",
    "# yaml-language-server: $schema=./ergos.schema.json   (first line of a manifest)",
  ],
  options: { output: { type: "string", short: "o" }, kind: { type: "string" } },
  run: (invocation) => {
    const kind = textOption(invocation, "kind") ?? "pipeline";
    if (kind !== "pipeline" && kind !== "policy")
      throw new UsageError(`--kind is pipeline or policy, found ${JSON.stringify(kind)}`);
    const schema = manifestJsonSchema(kind);
    const output = textOption(invocation, "output");
    const text = `${JSON.stringify(schema, undefined, 2)}\n`;
    if (output !== undefined) writeFileSync(output, text);
    if (output === undefined) invocation.out.answer(schema, () => text);
    else
      invocation.out.answer(
        { file: output },
        ({ file }) => `${file}: begin a manifest with\n# yaml-language-server: $schema=${file}`,
      );
    return Promise.resolve(EXIT_OK);
  },
};
