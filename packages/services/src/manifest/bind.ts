// A plan document bound to code: the plan that the runner runs, and the program around it.

import type { NodeDocument, PlanDocument } from "@ergos/compiler";
import { type Scope, objectScope } from "@ergos/compiler/expression";
import {
  KernelError,
  type Os,
  type Program,
  type ProgramSource,
  type Schema,
  type Tool,
  assertValid,
  parseGrants,
} from "@ergos/kernel";
import { type Facts, type PlanNode, createPlan } from "../plan/plan.ts";
import { planProgram } from "../plan/runner.ts";
import type { RunContext } from "../run-context.ts";
import { definitionOf, modulesOf } from "./definition.ts";
import { type Environment, Evaluation } from "./evaluation.ts";
import { type BindParts, type NodeWork, bindNode, checkOutput, contextFields } from "./node-work.ts";

export interface BindOptions {
  /** Loads a module; what it exports. */
  readonly importModule: (file: string) => Promise<Readonly<Record<string, unknown>>>;
  /** Names the content of a module, so that a change of it is a change of the nodes that call it. */
  readonly contentOf: (file: string) => string;
  readonly environment: Environment;
  /** Working directory of whoever runs it. */
  readonly cwd: string;
  readonly source?: ProgramSource;
}

/** A program of a manifest, and what the command line does around its runs. */
export interface ManifestProgram {
  readonly program: Program;
  /** Folders that the pipeline reads, for an input; `isGiven` when a template gave the path. */
  mounts(
    input: unknown,
  ): readonly { readonly at: string; readonly path: string; readonly isGiven: boolean; readonly writable: boolean }[];
  /** Lines for people about a result. */
  epilogue(result: unknown, input: unknown): string | undefined;
}

/**
 * Binds a document to code.
 * @throws {ENOEXEC} a module cannot be loaded, or does not export the function
 */
export async function bindManifest(document: PlanDocument, options: BindOptions): Promise<ManifestProgram> {
  const modules = await loadModules(document, options);
  const parts: BindParts = {
    environment: options.environment,
    functionOf: (module, name, where) => functionOf(modules, module, name, where),
  };
  const ambient = { here: document.here, cwd: options.cwd };
  const nodes = document.nodes.map((node) => toPlanNode(bindNode(node, parts), document, ambient, options));
  const evaluation = new Evaluation(`pipeline ${document.name}`, options.environment);
  const { inputSchema, outputSchema } = document;
  const output = document.output === undefined ? undefined : evaluation.value(document.output, "output");
  const epilogue = document.epilogue === undefined ? undefined : evaluation.template(document.epilogue, "epilogue");
  const mounts = document.mounts.map((mount) => ({
    ...mount,
    seenAt: evaluation.template(mount.at, "mounts.at"),
    folder: evaluation.template(mount.path, "mounts.path"),
  }));
  const tools = Object.entries(document.tools).map(([name, tool]): Tool<Os> => ({
    name,
    description: tool.description ?? `of pipeline ${document.name}`,
    inputSchema: tool.inputSchema ?? { type: "object" },
    effect: tool.effect,
    // A tool's function takes its arguments and the context of the call.
    call: functionOf(modules, tool.module, tool.export, `tool ${name}`) as unknown as Tool<Os>["call"],
  }));
  const plan = createPlan(document.name, nodes, {
    concurrency: document.concurrency,
    definition: JSON.stringify([document.output ?? null, outputSchema ?? null]),
    ...(output === undefined && outputSchema === undefined
      ? {}
      : { result: (outputs, runInput, process) => resultOf(outputs, runInput, document, output, ambient, process) }),
  });
  const program: Program = {
    ...planProgram(plan, options.source),
    tools,
    ...(document.caps === undefined ? {} : { grants: parseGrants(document.caps) }),
    ...document.bounds,
    accept: (input) => acceptInput(inputSchema, input, document.name),
  };
  return {
    program,
    mounts: (input) => {
      const scope = objectScope({ input: acceptInput(inputSchema, input, document.name) ?? {}, ...ambient });
      return mounts.map(({ path, writable, seenAt, folder }) => ({
        at: seenAt(scope),
        path: folder(scope),
        isGiven: path.includes("{{"),
        writable,
      }));
    },
    epilogue: (result, input) => {
      const given = acceptInput(inputSchema, input, document.name) ?? {};
      return epilogue?.(objectScope({ output: result ?? null, input: given, ...ambient }));
    },
  };
}

function toPlanNode(
  work: NodeWork,
  plan: PlanDocument,
  ambient: Readonly<Record<string, string>>,
  options: BindOptions,
): PlanNode {
  const { document, when, retry, recover, map } = work;
  const scopeOf = (needs: unknown, runInput: unknown, ctx: Parameters<typeof contextFields>[0]): Scope =>
    nodeScope(needs, document, runInput, ambient, ctx);
  return {
    name: document.name,
    kind: document.kind === "map" ? "map" : "function",
    needs: document.needs,
    after: document.after,
    allowSkipped: document.allowSkipped === true,
    definition: definitionOf(document, plan, options.contentOf),
    // Where user code gets something, it is copied for that.
    isReader: true,
    run: (needs, ctx) => work.run(scopeOf(needs, ctx.input, ctx), ctx, needs, ctx),
    ...(when === undefined
      ? {}
      : { when: (needs, runInput, process) => when(scopeOf(needs, runInput, factsOf(process, document.name))) }),
    ...(retry === undefined ? {} : { retry }),
    ...(document.timeoutMs === undefined ? {} : { timeoutMs: document.timeoutMs }),
    ...(recover === undefined
      ? {}
      : {
          recover:
            recover === "skip"
              ? recover
              : (error: KernelError, needs: never, ctx: RunContext<never>) =>
                  recover(error, scopeOf(needs, ctx.input, ctx), ctx, needs),
        }),
    ...(map === undefined || document.kind !== "map"
      ? {}
      : {
          map: {
            over: document.config.items,
            concurrency: document.config.concurrency,
            onError: document.config.onItemError === "continue" ? "drop" : document.config.onItemError,
            open: (needs, runInput, process) => {
              const outer = scopeOf(needs, runInput, factsOf(process, document.name));
              const scope = map.scopeOf(outer, runInput, needs);
              const { key } = map;
              return {
                items: map.items(scope),
                ...(key === undefined ? {} : { key: (item, index) => key(scope, item, index) }),
                run: (item, index, ctx) => map.each(scope, item, index, ctx),
                finish: (results) => checkOutput(results, document),
              };
            },
          },
        }),
  };
}

/** Names of a node's expressions: outputs that it reads, the run's input, and what every node knows. */
function nodeScope(
  needs: unknown,
  document: NodeDocument,
  runInput: unknown,
  ambient: Readonly<Record<string, string>>,
  ctx: Parameters<typeof contextFields>[0],
): Scope {
  const isRoot = document.needs.length === 0;
  // What a node without needs gets is the run's input.
  const outputs = isRoot ? {} : (needs as Readonly<Record<string, unknown>>);
  return {
    lookup: (name) => {
      if (Object.hasOwn(outputs, name)) return outputs[name];
      if (name === "input") return runInput ?? {};
      if (name === "ctx") return contextFields(ctx);
      return Object.hasOwn(ambient, name) ? ambient[name] : undefined;
    },
    names: () => [...Object.keys(outputs), "input"],
    whyNot: (name) => whySkipped(outputs, name),
  };
}

const whySkipped = (outputs: object, name: string): string | undefined =>
  Object.hasOwn(outputs, name) ? `node ${name} was skipped` : undefined;

/** What is known where no attempt is under way. */
const factsOf = ({ runId, pid, name }: Facts, nodeName: string): Parameters<typeof contextFields>[0] => ({
  runId,
  pid,
  pipelineName: name,
  nodeName,
  attempt: 1,
});

function resultOf(
  outputs: ReadonlyMap<string, unknown>,
  runInput: unknown,
  document: PlanDocument,
  output: ((scope: Scope) => unknown) | undefined,
  ambient: Readonly<Record<string, string>>,
  process: Facts,
): unknown {
  const ctx = contextFields(factsOf(process, ""));
  const names = new Set(document.nodes.map(({ name }) => name));
  const skipped: Scope = {
    lookup: () => undefined,
    names: () => [],
    whyNot: (name) => (names.has(name) ? `node ${name} was skipped` : undefined),
  };
  const scope = objectScope({ ...Object.fromEntries(outputs), input: runInput ?? {}, ctx, ...ambient }, skipped);
  const value = output === undefined ? lastOutput(outputs, document) : output(scope);
  if (document.outputSchema !== undefined)
    assertValid(document.outputSchema, value, `the result of pipeline ${document.name}`);
  return value;
}

/** The output of the nodes that nothing reads: of one alone its value, else by name. */
function lastOutput(outputs: ReadonlyMap<string, unknown>, document: PlanDocument): unknown {
  const read = new Set(document.nodes.flatMap(({ needs, after }) => [...needs, ...after]));
  const last = document.nodes.filter(({ name }) => !read.has(name));
  const [only] = last;
  return last.length === 1 && only !== undefined
    ? outputs.get(only.name)
    : Object.fromEntries(last.map(({ name }) => [name, outputs.get(name)]));
}

/** The input with its defaults, held against the schema. */
function acceptInput(schema: Schema | undefined, input: unknown, name: string): unknown {
  if (schema === undefined) return input;
  const full = withDefaults(schema, input ?? (schema.type === "object" ? {} : input));
  assertValid(schema, full, `the input of pipeline ${name}`);
  return full;
}

/** What is given with the defaults of its schema, those of items and of defaults too. */
function withDefaults(schema: Schema, value: unknown): unknown {
  if (value === undefined) return schema.default === undefined ? undefined : withDefaults(schema, schema.default);
  const { items } = schema;
  if (Array.isArray(value)) return items === undefined ? value : value.map((item) => withDefaults(items, item));
  if (schema.properties === undefined || typeof value !== "object" || value === null) return value;
  const filled = Object.entries(schema.properties).flatMap(([name, inner]) => {
    // A plain object, as just checked.
    const own = Object.hasOwn(value, name) ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
    const made = withDefaults(inner, own);
    return made === undefined ? [] : [[name, made]];
  });
  return { ...value, ...(Object.fromEntries(filled) as Readonly<Record<string, unknown>>) };
}

async function loadModules(
  document: PlanDocument,
  options: BindOptions,
): Promise<ReadonlyMap<string, Readonly<Record<string, unknown>>>> {
  const files = [
    ...new Set([...modulesOf(document.nodes), ...Object.values(document.tools).map(({ module }) => module)]),
  ];
  const loaded = files.map(async (file) => [file, await options.importModule(file)] as const);
  return new Map(await Promise.all(loaded));
}

function functionOf(
  modules: ReadonlyMap<string, Readonly<Record<string, unknown>>>,
  module: string,
  name: string,
  where: string,
): (input: unknown, ctx: RunContext<never>) => unknown {
  const found = modules.get(module)?.[name];
  // Called as `(input, ctx)`; what it takes is its author's promise.
  if (typeof found === "function") return found as (input: unknown, ctx: RunContext<never>) => unknown;
  throw new KernelError(
    "ENOEXEC",
    `${where}: the export ${name} of ${module} is ${found === undefined ? "missing" : `a ${typeof found}`}; it must be a function`,
    { path: module },
  );
}
