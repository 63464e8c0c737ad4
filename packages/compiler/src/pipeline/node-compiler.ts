// Nodes of a manifest to nodes of a plan, bodies included. Faults are reported, and what is left is compiled on.

import { present } from "@ergos/kernel";
import { Diagnostics } from "../diagnostic.ts";
import { suggest } from "../nearest.ts";
import { typeOfText } from "../expression/types.ts";
import { parseDuration } from "../duration.ts";
import { readSchema } from "../schema/json-schema-check.ts";
import { NODE_NAME, RESERVED_NAMES, isNodeKind } from "../schema/pipeline-fields.ts";
import { type SourceMap, type SourceValue, get, placeOf, textOf, textsOf } from "../source/value.ts";
import type {
  LlmConfig,
  ModuleSpec,
  NodeConfigs,
  NodeDocument,
  OutcomeSpec,
  RetrySpec,
  ValueSpec,
} from "./document.ts";
import { ExpressionCompiler, type Known, type NameScope } from "./expressions.ts";
import { reportCycles } from "./cycle.ts";

/** What is known of a module, or what is wrong with it. */
export type ModuleFinding =
  | { readonly file: string; readonly exports: readonly string[] | undefined }
  | { readonly missing: string };

export interface NodeCompilerParts {
  readonly diagnostics: Diagnostics;
  /** Finds a module that a file names; without it nothing is looked up. */
  readonly findModule?: ((from: string, path: string) => ModuleFinding) | undefined;
  readonly defaults: SourceMap | undefined;
  /** All tools that a node may call by name; without them names are not checked. */
  readonly tools: readonly string[] | undefined;
}

interface Draft {
  readonly name: string;
  readonly source: SourceMap;
  readonly path: string;
  /** Its name is only ours: expressions that say it mean something else. */
  readonly isUnnamed?: boolean;
}

/** Names that every expression knows. */
export const AMBIENT: ReadonlyMap<string, Known> = new Map([
  ["input", {}],
  ["ctx", {}],
  ["here", {}],
  ["cwd", {}],
]);

export class NodeCompiler {
  readonly #parts: NodeCompilerParts;
  readonly #diagnostics: Diagnostics;
  readonly #expressions: ExpressionCompiler;

  constructor(parts: NodeCompilerParts) {
    this.#parts = parts;
    this.#diagnostics = parts.diagnostics;
    this.#expressions = new ExpressionCompiler(parts.diagnostics);
  }

  get expressions(): ExpressionCompiler {
    return this.#expressions;
  }

  /** Compiles the nodes of a pipeline or a body; `outer` are the names that they see beside each other. */
  nodes(
    list: readonly SourceValue[],
    outer: NameScope,
    path: string,
  ): { readonly nodes: readonly NodeDocument[]; readonly known: ReadonlyMap<string, Known> } {
    const drafts = this.#drafts(list, path);
    const known = new Map(drafts.map(({ name, source }): [string, Known] => [name, outputOf(source)]));
    const nodes = drafts.flatMap((draft) => this.#node(draft, known, outer) ?? []);
    reportCycles(
      nodes,
      (name) => {
        const draft = drafts.find((one) => one.name === name);
        const at = draft === undefined ? undefined : (get(draft.source, "name") ?? draft.source);
        return at === undefined ? undefined : placeOf(at, draft?.path ?? "");
      },
      this.#diagnostics,
    );
    return { nodes, known };
  }

  #drafts(list: readonly SourceValue[], path: string): readonly Draft[] {
    const taken = new Map<string, SourceValue>();
    return list.flatMap((source, at): Draft[] => {
      if (source.kind !== "map") return [];
      const nameAt = get(source, "name");
      const given = textOf(nameAt);
      const where = `${path}[${at}]`;
      if (given === undefined || nameAt === undefined || !NODE_NAME.test(given)) return [];
      if (RESERVED_NAMES.some((one) => one === given)) {
        this.#diagnostics.report(
          "E305",
          placeOf(nameAt, `${where}.name`),
          `${given} has a meaning in expressions and cannot name a node`,
        );
        return [];
      }
      const before = taken.get(given);
      if (before !== undefined) {
        const { line } = before.file.position(before.start);
        this.#diagnostics.report(
          "E301",
          placeOf(nameAt, `${where}.name`),
          `there is a node ${given} already, in line ${line}`,
          "give each node a name of its own",
        );
        return [];
      }
      taken.set(given, nameAt);
      return [{ name: given, source, path: where }];
    });
  }

  #node(
    { name, source, path, isUnnamed = false }: Draft,
    siblings: ReadonlyMap<string, Known>,
    outer: NameScope,
  ): NodeDocument | undefined {
    const kind = textOf(get(source, "kind"));
    if (!isNodeKind(kind)) return undefined;
    const needs = new Set<string>();
    const scope: NameScope = {
      parent: outer,
      locals: new Map(),
      nodes: siblings,
      needs,
      ...(isUnnamed ? {} : { self: name }),
    };
    const after = this.#names(source, "wait_for", siblings, name, path);
    for (const need of this.#names(source, "dependencies", siblings, name, path)) needs.add(need);
    const input = this.#input(source, scope, path);
    const mapping = get(source, "input_mapping");
    const inputValue =
      mapping === undefined || mapping.kind === "map"
        ? undefined
        : this.#expressions.expression(mapping, scope, `${path}.input_mapping`);
    const when = this.#expressions.expression(get(source, "when"), scope, `${path}.when`);
    const inner = input === undefined ? scope : within(scope, new Map(Object.keys(input).map((field) => [field, {}])));
    const config = this.#config(kind, source, inner, path);
    const onError = this.#onError(get(source, "on_error"), inner, path);
    const inputSchema = readSchema(get(source, "input_schema"), `${path}.input_schema`, this.#diagnostics);
    const outputSchema = readSchema(get(source, "output_schema"), `${path}.output_schema`, this.#diagnostics);
    // Of a node with bodies the nodes in these have the defaults: attempts would multiply, times would not suffice.
    const isOfBodies = kind === "map" || kind === "branch";
    const attempts = (field: "retry" | "timeout"): SourceValue | undefined =>
      get(source, field) ?? (isOfBodies ? undefined : this.#default(field));
    const retry = retryOf(attempts("retry"));
    const timeoutMs = parseDuration(plainOf(attempts("timeout")));
    const description = textOf(get(source, "description"));
    const { line } = source.file.position(source.start);
    const common = {
      name,
      ...(description === undefined ? {} : { description }),
      at: `${source.file.name}:${line}`,
      needs: [...needs],
      after: after.filter((one) => !needs.has(one)),
      ...(input === undefined ? {} : { input }),
      ...(inputValue === undefined ? {} : { inputValue }),
      ...(when === undefined ? {} : { when }),
      ...(plainOf(get(source, "allow_skipped")) === true ? { allowSkipped: true as const } : {}),
      ...(retry === undefined ? {} : { retry }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(onError === undefined ? {} : { onError }),
      ...(inputSchema === undefined ? {} : { inputSchema }),
      ...(outputSchema === undefined ? {} : { outputSchema }),
    };
    // `#config` has made the configuration of this kind.
    return config === undefined ? undefined : ({ ...common, kind, config } as NodeDocument);
  }

  #default(name: string): SourceValue | undefined {
    return this.#parts.defaults === undefined ? undefined : get(this.#parts.defaults, name);
  }

  #repeats(source: SourceMap): boolean {
    return textOf(get(source, "on_unknown") ?? this.#default("on_unknown")) === "repeat";
  }

  #names(
    source: SourceMap,
    field: string,
    siblings: ReadonlyMap<string, Known>,
    self: string,
    path: string,
  ): readonly string[] {
    const value = get(source, field);
    if (value === undefined) return [];
    return (value.kind === "list" ? value.items : [value]).flatMap((item) => {
      const name = textOf(item);
      if (name === undefined) return [];
      const place = placeOf(item, `${path}.${field}`);
      if (name === self) {
        this.#diagnostics.report("E304", place, `node ${self} waits for itself`);
        return [];
      }
      if (siblings.has(name)) return [name];
      this.#diagnostics.report("E302", place, `there is no node ${name} here`, () =>
        suggest(
          name,
          [...siblings.keys()].filter((one) => one !== self),
        ),
      );
      return [];
    });
  }

  #input(source: SourceMap, scope: NameScope, path: string): Readonly<Record<string, ValueSpec>> | undefined {
    const mapping = get(source, "input_mapping");
    if (mapping?.kind !== "map") return undefined;
    return Object.fromEntries(
      Array.from(mapping.entries.values(), ({ key, value }) => [
        key,
        this.#expressions.values(value, "expressions", scope, `${path}.input_mapping.${key}`),
      ]),
    );
  }

  #onError(value: SourceValue | undefined, scope: NameScope, path: string): "skip" | OutcomeSpec | undefined {
    if (value === undefined || textOf(value) === "fail") return undefined;
    if (textOf(value) === "skip") return "skip";
    return value.kind === "map"
      ? this.#outcome(value, within(scope, new Map([["error", ERROR]])), `${path}.on_error`)
      : undefined;
  }

  #outcome(source: SourceMap, scope: NameScope, path: string): OutcomeSpec | undefined {
    const value = get(source, "value");
    if (value !== undefined) return { value: this.#expressions.values(value, "expressions", scope, `${path}.value`) };
    const body = get(source, "body");
    return body === undefined ? undefined : { body: this.#body(body, scope, `${path}.body`) };
  }

  /** A body: nodes that see each other and everything outside. One alone needs no name. */
  #body(value: SourceValue, scope: NameScope, path: string): readonly NodeDocument[] {
    if (value.kind === "list") return this.nodes(value.items, scope, path).nodes;
    if (value.kind !== "map") return [];
    const named = get(value, "name");
    const name = textOf(named) ?? "body";
    const alone = this.#node({ name, source: value, path, isUnnamed: named === undefined }, new Map(), scope);
    return alone === undefined ? [] : [alone];
  }

  #config(
    kind: NodeDocument["kind"],
    source: SourceMap,
    scope: NameScope,
    path: string,
  ): NodeConfigs[NodeDocument["kind"]] | undefined {
    switch (kind) {
      case "function":
        return this.module(source, path);
      case "expression":
        return this.#expression(source, scope, path);
      case "llm":
        return this.#llm(source, scope, path);
      case "tool":
        return this.#tool(source, scope, path);
      case "map":
        return this.#map(source, scope, path);
      case "branch":
        return this.#branch(source, scope, path);
      default:
        return kind satisfies never;
    }
  }

  /** The module and export of a function or a tool, looked up without running it. */
  module(source: SourceMap, path: string): ModuleSpec | undefined {
    const at = get(source, "module");
    const module = textOf(at);
    if (at === undefined || module === undefined) return undefined;
    const exportAt = get(source, "export");
    const name = textOf(exportAt) ?? "default";
    const found = this.#parts.findModule?.(at.file.name, module);
    if (found === undefined) return { module, export: name };
    if ("missing" in found) {
      this.#diagnostics.report(
        "E501",
        placeOf(at, `${path}.module`),
        found.missing,
        "paths are relative to the file that names them",
      );
      return { module, export: name };
    }
    if (found.exports !== undefined && !found.exports.includes(name)) {
      const hint = found.exports.length === 0 ? "it exports nothing" : (suggest(name, found.exports) ?? "");
      this.#diagnostics.report(
        "E502",
        placeOf(exportAt ?? at, `${path}.export`),
        `${module} has no export ${name}`,
        hint,
      );
    }
    return { module: found.file, export: name };
  }

  #expression(source: SourceMap, scope: NameScope, path: string): NodeConfigs["expression"] | undefined {
    const value = get(source, "value");
    if (value !== undefined) return { value: this.#expressions.values(value, "expressions", scope, `${path}.value`) };
    const list = get(source, "expressions");
    if (list?.kind !== "map") return undefined;
    // Each sees those before it: one map that grows.
    const locals = new Map<string, Known>();
    const inner = within(scope, locals);
    const expressions = Array.from(list.entries.values(), ({ key, value: one }): readonly [string, string] => {
      const text = this.#expressions.expression(one, inner, `${path}.expressions.${key}`);
      locals.set(key, {});
      return [key, text ?? "none"];
    });
    return { expressions: Object.fromEntries(expressions) };
  }

  #llm(source: SourceMap, scope: NameScope, path: string): LlmConfig {
    const template = (name: string): string | undefined =>
      this.#expressions.template(get(source, name), scope, `${path}.${name}`);
    const number = (name: string): number | undefined => {
      const value = plainOf(get(source, name) ?? this.#default(name));
      return typeof value === "number" ? value : undefined;
    };
    const messages = get(source, "messages");
    const task = get(source, "task");
    // Where a node says nothing the default is compiled as if it stood there.
    const model =
      get(source, "model") === undefined
        ? this.#expressions.template(this.#default("model"), scope, "spec.defaults.model")
        : template("model");
    return present({
      model,
      system: template("system"),
      prompt: template("prompt"),
      messages:
        messages?.kind === "list"
          ? messages.items.flatMap((item, at) => this.#message(item, scope, `${path}.messages[${at}]`))
          : undefined,
      task: task?.kind === "map" ? this.#task(task, scope, `${path}.task`) : undefined,
      temperature: number("temperature"),
      topP: number("top_p"),
      maxOutputTokens: number("max_output_tokens"),
      stop: textsOf(get(source, "stop")),
      seed: number("seed"),
      tools: this.#offered(get(source, "tools"), `${path}.tools`),
      maxTurns: number("max_turns"),
      repair: number("repair") ?? 1,
      onUnknown: this.#repeats(source) ? ("repeat" as const) : undefined,
    });
  }

  #message(source: SourceValue, scope: NameScope, path: string): NonNullable<LlmConfig["messages"]> {
    if (source.kind !== "map") return [];
    const role = textOf(get(source, "role"));
    const content = this.#expressions.template(get(source, "content"), scope, `${path}.content`);
    if (content === undefined || (role !== "system" && role !== "user" && role !== "assistant")) return [];
    return [{ role, content }];
  }

  #task(source: SourceMap, scope: NameScope, path: string): LlmConfig["task"] | undefined {
    const kind = textOf(get(source, "kind"));
    if (kind !== "summarise" && kind !== "classify") return undefined;
    const labels = get(source, "labels");
    const sentences = plainOf(get(source, "sentences"));
    return present<LlmTaskFields>({
      kind,
      text: this.#expressions.template(get(source, "text"), scope, `${path}.text`) ?? "",
      sentences: typeof sentences === "number" ? sentences : undefined,
      labels:
        labels?.kind === "list"
          ? labels.items.flatMap((item, at) => this.#expressions.template(item, scope, `${path}.labels[${at}]`) ?? [])
          : this.#expressions.expression(labels, scope, `${path}.labels`),
    });
  }

  #tool(source: SourceMap, scope: NameScope, path: string): NodeConfigs["tool"] | undefined {
    const tool = textOf(get(source, "tool"));
    if (tool === undefined) return undefined;
    this.#expectTool(tool, get(source, "tool") ?? source, `${path}.tool`);
    const given = get(source, "arguments");
    const args =
      given?.kind === "map"
        ? Object.fromEntries(
            Array.from(given.entries.values(), ({ key, value }) => [
              key,
              this.#expressions.values(value, "templates", scope, `${path}.arguments.${key}`),
            ]),
          )
        : {};
    return { tool, arguments: args, ...(this.#repeats(source) ? { onUnknown: "repeat" as const } : {}) };
  }

  /** The tools that a model is offered. */
  #offered(source: SourceValue | undefined, path: string): readonly string[] | undefined {
    if (source === undefined) return undefined;
    const items = source.kind === "list" ? source.items : [source];
    const names = items.flatMap((item, at) => {
      const tool = textOf(item);
      if (tool === undefined) return [];
      this.#expectTool(tool, item, source.kind === "list" ? `${path}[${at}]` : path);
      return [tool];
    });
    return names.length === 0 ? undefined : [...new Set(names)];
  }

  #expectTool(tool: string, at: SourceValue, path: string): void {
    const { tools } = this.#parts;
    if (tools?.includes(tool) !== false) return;
    this.#diagnostics.report(
      "W205",
      placeOf(at, path),
      `no host has a tool ${JSON.stringify(tool)} of its own, and the manifest declares none`,
      suggest(tool, tools) ?? "declare it under spec.tools, unless whoever runs this adds it to the host",
    );
  }

  #map(source: SourceMap, scope: NameScope, path: string): NodeConfigs["map"] | undefined {
    const items = this.#expressions.list(get(source, "items"), scope, `${path}.items`);
    const body = get(source, "body");
    const itemAt = get(source, "item");
    const item = textOf(itemAt) ?? "item";
    if (
      itemAt !== undefined &&
      item !== "item" &&
      (!NODE_NAME.test(item) || RESERVED_NAMES.some((one) => one === item))
    )
      this.#diagnostics.report(
        "E305",
        placeOf(itemAt, `${path}.item`),
        `${item} has a meaning in expressions and cannot name an item`,
      );
    const inner = within(
      scope,
      new Map([
        [item, this.#expressions.itemOf(items, scope)],
        ["index", {}],
      ]),
    );
    const key = this.#expressions.expression(get(source, "key"), inner, `${path}.key`);
    const nodes = body === undefined ? [] : this.#body(body, inner, `${path}.body`);
    if (items === undefined || nodes.length === 0) return undefined;
    const concurrency = plainOf(get(source, "concurrency"));
    const onItemError = textOf(get(source, "on_item_error"));
    return {
      items,
      item,
      ...(key === undefined ? {} : { key }),
      concurrency: typeof concurrency === "number" ? concurrency : 16,
      onItemError: onItemError === "collect" || onItemError === "continue" ? onItemError : "fail",
      body: nodes,
    };
  }

  #branch(source: SourceMap, scope: NameScope, path: string): NodeConfigs["branch"] | undefined {
    const list = get(source, "cases");
    if (list?.kind !== "list") return undefined;
    const cases = list.items.flatMap((item, at) => {
      if (item.kind !== "map") return [];
      const when = this.#expressions.expression(get(item, "when"), scope, `${path}.cases[${at}].when`);
      const outcome = this.#outcome(item, scope, `${path}.cases[${at}]`);
      return when === undefined || outcome === undefined ? [] : [{ when, ...outcome }];
    });
    const other = get(source, "else");
    const otherwise = other?.kind === "map" ? this.#outcome(other, scope, `${path}.else`) : undefined;
    return otherwise === undefined ? { cases } : { cases, else: otherwise };
  }
}

const ERROR: Known = {
  schema: {
    type: "object",
    properties: {
      code: { type: "string" },
      message: { type: "string" },
      causes: { type: "array", items: { type: "string" } },
    },
  },
};

/** A scope with more values in it; its nodes are those of the outer one. */
const within = (parent: NameScope, locals: ReadonlyMap<string, Known>): NameScope => ({
  parent,
  locals,
  nodes: new Map(),
  needs: new Set(),
});

/** What is known of the output of a node before it is compiled. */
function outputOf(source: SourceMap): Known {
  const schema = get(source, "output_schema");
  // What is wrong with it is reported where the node is compiled.
  const known = readSchema(schema, "", new Diagnostics());
  const kind = textOf(get(source, "kind"));
  // What takes the place of a failure may be anything.
  const isCertain = get(source, "on_error")?.kind !== "map";
  if (!isCertain) return {};
  if (known !== undefined) return { schema: known };
  if (kind === "map") return { schema: { type: "array" } };
  if (kind === "llm" && schema === undefined) return { schema: { type: "string" } };
  const value = textOf(get(source, "value"));
  if (kind === "expression" && value !== undefined && !value.includes("{{")) {
    const type = typeOfText(value, () => undefined);
    return type === undefined ? {} : { schema: type };
  }
  const list = get(source, "expressions");
  if (list?.kind !== "map") return {};
  return {
    schema: {
      type: "object",
      properties: Object.fromEntries(Array.from(list.entries.keys(), (key) => [key, {}])),
      additionalProperties: false,
    },
  };
}

function plainOf(value: SourceValue | undefined): unknown {
  return value?.kind === "scalar" ? value.value : undefined;
}

function retryOf(value: SourceValue | undefined): RetrySpec | undefined {
  if (value === undefined) return undefined;
  if (value.kind === "scalar") return typeof value.value === "number" ? { attempts: value.value } : undefined;
  if (value.kind !== "map") return undefined;
  const attempts = plainOf(get(value, "attempts"));
  const factor = plainOf(get(value, "factor"));
  if (typeof attempts !== "number") return undefined;
  return present({
    attempts,
    delayMs: parseDuration(plainOf(get(value, "delay"))),
    factor: typeof factor === "number" ? factor : undefined,
    maxDelayMs: parseDuration(plainOf(get(value, "max_delay"))),
  });
}

/** What is read of a task; what was not given is undefined. */
interface LlmTaskFields {
  readonly kind: "summarise" | "classify";
  readonly text: string;
  readonly sentences: number | undefined;
  readonly labels: readonly string[] | string | undefined;
}
