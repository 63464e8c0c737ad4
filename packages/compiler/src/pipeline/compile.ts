// A manifest file to plans and diagnostics. It never throws on what a user wrote.

import { Diagnostics, type Diagnostic, SourceFile } from "../diagnostic.ts";
import type { CompilerHost } from "../host.ts";
import { dirname, resolve } from "node:path";
import { MANIFEST_LIMITS } from "../limits.ts";
import { suggest } from "../nearest.ts";
import { readPolicy } from "../policy/compile.ts";
import { Checker } from "../schema/check.ts";
import { readSchema } from "../schema/json-schema-check.ts";
import { API_VERSION } from "../schema/pipeline-fields.ts";
import { readSource } from "../source/reader.ts";
import { type SourceMap, type SourceValue, get, kindName, placeOf, textOf } from "../source/value.ts";
import { type MountTemplate, PLAN_FORMAT, type PlanDocument, type ToolSpec } from "./document.ts";
import type { Known, NameScope } from "./expressions.ts";
import { checkCaps, compileCaps, compileLimits } from "./bounds.ts";
import { lint, reportSecrets } from "./lint.ts";
import { AMBIENT, NodeCompiler } from "./node-compiler.ts";

export interface Compilation {
  /** Pipelines without errors, in the order of the file. */
  readonly plans: readonly PlanDocument[];
  readonly diagnostics: readonly Diagnostic[];
  readonly hasErrors: boolean;
}

export interface CompileOptions {
  /** Name of the file, for messages and for what it names relative to itself. */
  readonly file: string;
  readonly host: CompilerHost;
  /** Adds the rules of `ergos lint`. */
  readonly lint?: boolean;
}

/** Compiles a manifest. */
export function compileManifest(text: string, options: CompileOptions): Compilation {
  const diagnostics = new Diagnostics();
  const file = new SourceFile(options.file, text);
  const read = readSource(file, options.host, diagnostics);
  // Behind a last `---` there is nothing.
  const documents = read.length > 1 ? read.filter((one) => !isNothing(one)) : read;
  if (documents.length === 0 && !diagnostics.hasErrors)
    diagnostics.report(
      "E201",
      { file, start: 0, end: 0, path: "" },
      "the file holds no manifest",
      `begin with apiVersion: ${API_VERSION} and kind: Pipeline; \`ergos init\` writes an example`,
    );
  refuseDoubles(documents, diagnostics);
  const plans = documents.flatMap((document) => compileDocument(document, options, diagnostics) ?? []);
  return {
    plans: diagnostics.hasErrors ? [] : plans,
    diagnostics: diagnostics.sorted,
    hasErrors: diagnostics.hasErrors,
  };
}

const isNothing = (source: SourceValue): boolean =>
  source.kind === "scalar" && source.value === null && source.isBroken !== true;

/** Of two pipelines of one name nobody could say which is meant. */
function refuseDoubles(documents: readonly SourceValue[], diagnostics: Diagnostics): void {
  const taken = new Map<string, SourceValue>();
  for (const document of documents) {
    const metadata = document.kind === "map" ? get(document, "metadata") : undefined;
    const at = metadata?.kind === "map" ? get(metadata, "name") : undefined;
    const name = textOf(at);
    if (at === undefined || name === undefined || document.kind !== "map") continue;
    const key = `${textOf(get(document, "kind")) ?? ""} ${name}`;
    const before = taken.get(key);
    if (before === undefined) taken.set(key, at);
    else
      diagnostics.report(
        "E301",
        placeOf(at, "metadata.name"),
        `there is a manifest ${name} of this kind already, in line ${before.file.position(before.start).line}`,
        "give each a name of its own",
      );
  }
}

function compileDocument(
  source: SourceValue,
  options: CompileOptions,
  diagnostics: Diagnostics,
): PlanDocument | undefined {
  if (source.kind !== "map") {
    diagnostics.report("E201", placeOf(source, ""), `expected a manifest, found ${kindName(source)}`);
    return undefined;
  }
  if (textOf(get(source, "kind")) === "Policy") {
    readPolicy(source, diagnostics);
    return undefined;
  }
  if (!isPipeline(source, diagnostics)) return undefined;
  reportSecrets(source, "", diagnostics);
  const checker = new Checker(diagnostics);
  checker.object(source, "pipeline", "");
  const spec = get(source, "spec");
  const metadata = get(source, "metadata");
  if (spec?.kind !== "map" || metadata?.kind !== "map") return undefined;
  return compilePipeline(spec, metadata, options, diagnostics);
}

function isPipeline(source: SourceMap, diagnostics: Diagnostics): boolean {
  const kind = get(source, "kind");
  const version = get(source, "apiVersion");
  if (textOf(version) === "hexdag/v1") {
    diagnostics.report(
      "E201",
      placeOf(version ?? source, "apiVersion"),
      "hexdag/v1 manifests are not accepted yet",
      `write it as apiVersion: ${API_VERSION}; \`ergos explain pipeline\` shows the fields`,
    );
    return false;
  }
  if (kind !== undefined && textOf(kind) !== "Pipeline") {
    diagnostics.report(
      "E201",
      placeOf(kind, "kind"),
      `${JSON.stringify(textOf(kind) ?? kindName(kind))} is no kind of manifest that is known`,
      suggest(textOf(kind) ?? "", ["Pipeline", "Policy"]),
    );
    return false;
  }
  return true;
}

function compilePipeline(
  spec: SourceMap,
  metadata: SourceMap,
  options: CompileOptions,
  diagnostics: Diagnostics,
): PlanDocument {
  const inputSchema = readSchema(get(spec, "input_schema"), "spec.input_schema", diagnostics);
  const outputSchema = readSchema(get(spec, "output_schema"), "spec.output_schema", diagnostics);
  const defaults = get(spec, "defaults");
  const toolList = get(spec, "tools");
  const compiler = new NodeCompiler({
    diagnostics,
    findModule: options.host.findModule,
    defaults: defaults?.kind === "map" ? defaults : undefined,
    tools: options.host.tools && [...options.host.tools, ...(toolList?.kind === "map" ? toolList.entries.keys() : [])],
  });
  const tools = toolList?.kind === "map" ? compileTools(toolList, compiler, diagnostics) : {};
  const ambient = new Map<string, Known>(AMBIENT);
  if (inputSchema !== undefined) ambient.set("input", { schema: inputSchema });
  const outer: NameScope = { locals: ambient, nodes: new Map(), needs: new Set() };
  const list = get(spec, "nodes");
  const items = list?.kind === "list" ? list.items : [];
  if (list !== undefined && items.length > MANIFEST_LIMITS.nodesMax)
    diagnostics.report(
      "E102",
      placeOf(list, "spec.nodes"),
      `the pipeline has ${items.length} nodes; at most ${MANIFEST_LIMITS.nodesMax} are allowed`,
      "do the same for many items in a map node",
    );
  const { nodes, known } = compiler.nodes(items.slice(0, MANIFEST_LIMITS.nodesMax), outer, "spec.nodes");
  const whole: NameScope = { parent: outer, locals: new Map(), nodes: known, needs: new Set() };
  const outputAt = get(spec, "output");
  const output =
    outputAt === undefined ? undefined : compiler.expressions.values(outputAt, "expressions", whole, "spec.output");
  // What stands outside of a run knows nothing of it but its ends.
  const before = new Map([...ambient].filter(([name]) => name !== "ctx"));
  const around = (locals: ReadonlyMap<string, Known>): NameScope => ({ locals, nodes: new Map(), needs: new Set() });
  const after = around(new Map<string, Known>([...before, ["output", {}]]));
  const epilogue = compiler.expressions.template(get(spec, "epilogue"), after, "spec.epilogue");
  const mounts = get(spec, "mounts");
  const description = textOf(get(metadata, "description"));
  const concurrency = get(spec, "concurrency");
  const capsAt = get(spec, "caps");
  const caps = compileCaps(capsAt, diagnostics);
  const bounds = compileLimits(get(spec, "limits"), diagnostics);
  const plan: PlanDocument = {
    format: PLAN_FORMAT,
    name: textOf(get(metadata, "name")) ?? "",
    ...(description === undefined ? {} : { description }),
    here: dirname(resolve(options.file)),
    ...(inputSchema === undefined ? {} : { inputSchema }),
    ...(outputSchema === undefined ? {} : { outputSchema }),
    concurrency: concurrency?.kind === "scalar" && typeof concurrency.value === "number" ? concurrency.value : 64,
    mounts:
      mounts?.kind === "list"
        ? mounts.items.flatMap((item, at) => compileMount(item, compiler, around(before), `spec.mounts[${at}]`))
        : [],
    tools,
    ...(caps === undefined ? {} : { caps }),
    ...(bounds === undefined ? {} : { bounds }),
    nodes,
    ...(output === undefined ? {} : { output }),
    ...(epilogue === undefined ? {} : { epilogue }),
  };
  if (capsAt !== undefined && !diagnostics.hasErrors) checkCaps(plan, capsAt, diagnostics);
  const readsInput = compiler.expressions.ambient.has("input");
  if (options.lint === true) lint(metadata, spec, { plan, readsInput }, diagnostics);
  return plan;
}

function compileMount(
  source: SourceValue,
  compiler: NodeCompiler,
  scope: NameScope,
  path: string,
): readonly MountTemplate[] {
  if (source.kind !== "map") return [];
  const at = compiler.expressions.template(get(source, "at"), scope, `${path}.at`);
  const folder = compiler.expressions.template(get(source, "path"), scope, `${path}.path`);
  const writable = get(source, "writable");
  if (at === undefined || folder === undefined) return [];
  return [{ at, path: folder, writable: writable?.kind === "scalar" && writable.value === true }];
}

function compileTools(
  list: SourceMap,
  compiler: NodeCompiler,
  diagnostics: Diagnostics,
): Readonly<Record<string, ToolSpec>> {
  const tools: [string, ToolSpec][] = [];
  for (const { key, value } of list.entries.values()) {
    const path = `spec.tools.${key}`;
    const module = value.kind === "map" ? compiler.module(value, path) : undefined;
    if (value.kind !== "map" || module === undefined) continue;
    const description = textOf(get(value, "description"));
    const inputSchema = readSchema(get(value, "input_schema"), `${path}.input_schema`, diagnostics);
    const effect = textOf(get(value, "effect"));
    tools.push([
      key,
      {
        ...module,
        ...(description === undefined ? {} : { description }),
        ...(inputSchema === undefined ? {} : { inputSchema }),
        effect: effect === "pure" || effect === "idempotent" ? effect : "once",
      },
    ]);
  }
  return Object.fromEntries(tools);
}
