// The fields of `kind: Pipeline`.

import { ON_LIMIT, RATE_KINDS, RATE_RESOURCES, RATE_SCOPES } from "@ergos/kernel";
import type { Field, FieldType, Fields, ObjectSpec } from "./field.ts";

export const API_VERSION = "ergos/v1";
export const NODE_KINDS = ["function", "expression", "llm", "tool", "map", "branch"] as const;
export type NodeKind = (typeof NODE_KINDS)[number];

const text: FieldType = { type: "text" };
const expression: FieldType = { type: "expression" };
const expressions: FieldType = { type: "expressions" };
const template: FieldType = { type: "template" };
const duration: FieldType = { type: "duration" };
const count: FieldType = { type: "integer", minimum: 1 };
const amount: FieldType = { type: "integer", minimum: 0 };
const names: FieldType = { type: "list", items: text, single: true };
const schema: FieldType = { type: "schema" };

export const PIPELINE_NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;
/** Node names are names of expressions too. */
export const NODE_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
/** Names that expressions have anyway. */
export const RESERVED_NAMES = [
  "input",
  "item",
  "index",
  "error",
  "ctx",
  "here",
  "cwd",
  "output",
  "loop",
  "true",
  "false",
  "none",
  "True",
  "False",
  "None",
  "and",
  "or",
  "not",
  "in",
  "is",
  "if",
  "else",
  "__proto__",
] as const;

/** Whether a node may be called so. */
export const isNodeName = (name: string): boolean =>
  NODE_NAME.test(name) && !RESERVED_NAMES.some((one) => one === name);

const name: Field = {
  type: { type: "text", pattern: NODE_NAME, what: "name (letters, digits and _)" },
  required: true,
  doc: "Name of the node; expressions of other nodes read its output by it.",
  example: "summary",
};

/** Fields that every node has, whatever its kind. */
export const COMMON_NODE_FIELDS: Fields = {
  name,
  kind: { type: { type: "enum", values: NODE_KINDS }, required: true, doc: "What the node does." },
  description: { type: text, doc: "What the node is for." },
  dependencies: {
    type: names,
    doc: "Nodes whose outputs this one reads. Nodes that its expressions name are found without it.",
    otherwise: "what the expressions name",
  },
  wait_for: { type: names, doc: "Nodes that must be over before, without reading them." },
  input_mapping: {
    type: { type: "either", options: [{ type: "map", values: expressions }, expression] },
    doc: "The node's input, field by field, or as one expression; its other expressions and templates see the fields as names, but `when`, which comes before.",
    otherwise: "the outputs of the dependencies by name, or the run's input for a node without any",
    example: "{ text: fetch.body, limit: 3 }",
  },
  when: {
    type: expression,
    doc: "The node is skipped, and what reads it too, when this is false.",
    otherwise: "true",
    example: "score.value > 0.8",
  },
  allow_skipped: {
    type: { type: "boolean" },
    doc: "Run although something that it reads was skipped; `is defined` and `default` tell.",
    otherwise: "false",
  },
  retry: {
    type: { type: "either", options: [count, { type: "object", name: "retry" }] },
    doc: "How often it is tried, or a policy.",
    otherwise: "one attempt; three for a model call that fails for reasons that may pass; of a map, of each item",
  },
  timeout: {
    type: { type: "duration", none: true },
    doc: "Time of one attempt; of a map, of one attempt of an item. A node that waits for people, or sleeps, has `none`: its waiting is time of the attempt.",
    otherwise: "that of spec.defaults, or none",
    example: "30s",
  },
  on_error: {
    type: {
      type: "either",
      options: [
        { type: "enum", values: ["fail", "skip"] },
        { type: "object", name: "on_error" },
      ],
    },
    doc: "What happens after the last attempt, or the condition, has failed: the run fails, the node counts as skipped, or something takes its place; `error.code` and `error.message` tell why.",
    otherwise: "fail",
  },
  input_schema: { type: schema, doc: "The node's input must fit it." },
  output_schema: {
    type: schema,
    doc: "The node's output must fit it, but not what takes the place of a failure. A model is asked for JSON of it.",
  },
};

const MODEL_FIELDS: Fields = {
  model: {
    type: template,
    doc: "`provider/model`, as openai/gpt-4.1-mini, or a name under /dev/model.",
    otherwise: "the default of the pipeline, then of the host",
  },
  temperature: { type: { type: "number", minimum: 0, maximum: 2 }, doc: "How much chance there is in the answer." },
  top_p: {
    type: { type: "number", minimum: 0, maximum: 1 },
    doc: "Share of the likeliest tokens that are considered.",
  },
  max_output_tokens: { type: count, doc: "Longest answer; a budget reserves this much.", otherwise: "4096" },
  stop: { type: { type: "list", items: text, single: true }, doc: "Texts at which the answer ends." },
  seed: { type: { type: "integer" }, doc: "Asks for the same answer to the same request." },
};

const onUnknown: Field = {
  type: { type: "enum", values: ["fail", "repeat"] },
  doc: "What a resumed run does about a call that was under way when its host died: fail with EUNKNOWN, so that somebody looks, or call again, which may pay or act twice.",
  otherwise: "fail",
};

/** Fields of each kind, beside the common ones. */
export const NODE_SPECS: Readonly<Record<NodeKind, ObjectSpec>> = {
  function: {
    doc: "Calls a function of a module as `(input, ctx)`.",
    fields: {
      module: {
        type: { type: "text", what: "path of a module (.ts, .js)" },
        required: true,
        doc: "Module, relative to the file that names it.",
        example: "./steps.ts",
      },
      export: { type: text, doc: "Which export of the module.", otherwise: "default" },
    },
  },
  expression: {
    doc: "Computes values.",
    fields: {
      value: {
        type: expressions,
        doc: "The output: an expression, or values whose texts are expressions.",
        example: "items | length",
      },
      expressions: {
        type: { type: "map", values: expression },
        doc: "Several values by name; each sees those before it.",
      },
    },
    choices: [{ fields: ["value", "expressions"], required: true }],
  },
  llm: {
    doc: "Asks a language model, which may call tools. The output is its text, or the value of its JSON with `output_schema`.",
    fields: {
      ...MODEL_FIELDS,
      system: { type: template, doc: "Instructions that stand above the conversation." },
      prompt: { type: template, doc: "What is asked.", example: "Summarise: {{ text }}" },
      messages: {
        type: { type: "list", items: { type: "object", name: "message" }, minItems: 1 },
        doc: "A conversation, in place of `prompt`.",
      },
      task: {
        type: { type: "object", name: "task" },
        doc: "What the prompt is for, for models that are not language models (the offline one); others ignore it.",
      },
      tools: {
        type: names,
        doc: "Tools that the model may call: of this manifest (`spec.tools`) or under /lib/tools. It is told what comes of each call, and asked again until it answers. A call needs its right (`tool.call:NAME`) as any other; `on_unknown` is about the model, not about them.",
        otherwise: "none",
        example: "[read_file, grep]",
      },
      max_turns: {
        type: { type: "integer", minimum: 1, maximum: 1000 },
        doc: "How often a model with tools is asked, at most, until it must have answered.",
        otherwise: "10",
      },
      on_unknown: onUnknown,
      repair: {
        type: { type: "integer", minimum: 0, maximum: 5 },
        doc: "How often a model that does not answer with JSON of `output_schema` is told so and asked again. After that an attempt of `retry` asks anew.",
        otherwise: "1",
      },
    },
    choices: [{ fields: ["prompt", "messages"], required: true }],
  },
  tool: {
    doc: "Calls a tool.",
    fields: {
      tool: {
        type: text,
        required: true,
        doc: "Name of the tool: of this manifest (`spec.tools`) or under /lib/tools.",
        example: "read_file",
      },
      arguments: {
        type: { type: "map", values: { type: "templates" } },
        doc: "Arguments by name; texts are templates, and one that is a single {{ … }} keeps the type of its value.",
        otherwise: "none",
      },
      on_unknown: onUnknown,
    },
  },
  map: {
    doc: "Does the same for each item of a list, several at a time. The output is the list of results.",
    fields: {
      items: { type: expression, required: true, doc: "The list." },
      item: {
        type: { type: "text", pattern: NODE_NAME, what: "name" },
        doc: "Name of the current item in the body.",
        otherwise: "item (and `index`)",
      },
      key: {
        type: expression,
        doc: "A stable name of an item, so that a resumed run knows it again.",
        otherwise: "its index",
      },
      concurrency: { type: count, doc: "Items under way at the same time.", otherwise: "16" },
      on_item_error: {
        type: { type: "enum", values: ["fail", "collect", "continue"] },
        doc: "The first failed item ends the node (`fail`), each result is `{ value }`, `{ error }` or, of an item that was skipped, `{ skipped }` (`collect`), or failed items are left out (`continue`).",
        otherwise: "fail",
      },
      body: {
        type: { type: "body" },
        required: true,
        doc: "What is done with each item, which is the input of nodes that map and read nothing. Of several nodes the last one's output is the result; an item whose result was skipped has none, also in the list.",
      },
    },
  },
  branch: {
    doc: "Takes the first case whose condition is true. The output is the case's; of none, nothing: the node is skipped.",
    fields: {
      cases: {
        type: { type: "list", items: { type: "object", name: "case" }, minItems: 1 },
        required: true,
        doc: "Cases in order.",
      },
      else: { type: { type: "object", name: "else" }, doc: "Taken when no case is." },
    },
  },
};

/** Objects inside of nodes and of the spec. */
export const OBJECT_SPECS: Readonly<Record<string, ObjectSpec>> = {
  retry: {
    doc: "How a node is tried again.",
    fields: {
      attempts: { type: count, required: true, doc: "Attempts in all." },
      delay: { type: { type: "duration", zero: true }, doc: "Wait before the second attempt.", otherwise: "100ms" },
      factor: { type: { type: "number", minimum: 1 }, doc: "What each wait is multiplied with.", otherwise: "2" },
      max_delay: {
        type: { type: "duration", zero: true },
        doc: "No wait is longer, not even one that is asked for (`Retry-After`).",
        otherwise: "60s, or as long as is asked for",
      },
    },
  },
  on_error: {
    doc: "What takes the place of a failed node's output.",
    fields: {
      value: { type: expressions, doc: "A value; `error` is in scope." },
      body: { type: { type: "body" }, doc: "Nodes that run in its place; `error` is in scope." },
    },
    choices: [{ fields: ["value", "body"], required: true }],
  },
  message: {
    doc: "A message of a conversation.",
    fields: {
      role: { type: { type: "enum", values: ["system", "user", "assistant"] }, required: true, doc: "Who says it." },
      content: { type: template, required: true, doc: "What is said." },
    },
  },
  task: {
    doc: "What a prompt is for.",
    fields: {
      kind: {
        type: { type: "enum", values: ["summarise", "classify"] },
        required: true,
        doc: "What is to be done with the text.",
      },
      text: { type: template, required: true, doc: "The text." },
      sentences: { type: count, doc: "Sentences of a summary.", otherwise: "2" },
      labels: {
        type: { type: "either", options: [{ type: "list", items: template, minItems: 1 }, expression] },
        doc: "Labels to choose from, each with key words after a colon; or an expression that gives them.",
      },
    },
  },
  case: {
    doc: "A case of a branch.",
    fields: {
      when: { type: expression, required: true, doc: "The condition." },
      value: { type: expressions, doc: "The output of the case." },
      body: { type: { type: "body" }, doc: "Nodes that give the output." },
    },
    choices: [{ fields: ["value", "body"], required: true }],
  },
  else: {
    doc: "What is taken when no case is.",
    fields: {
      value: { type: expressions, doc: "The output." },
      body: { type: { type: "body" }, doc: "Nodes that give the output." },
    },
    choices: [{ fields: ["value", "body"], required: true }],
  },
  mount: {
    doc: "A folder of the machine that the pipeline reads.",
    fields: {
      at: {
        type: { type: "template" },
        required: true,
        doc: "Where it is seen: an absolute path of the namespace.",
        example: "/srv/documents",
      },
      path: {
        type: template,
        required: true,
        doc: "The folder. As a plain text it is relative to the manifest; what a template gives is relative to the working directory.",
        example: "{{ input.dir }}",
      },
      writable: { type: { type: "boolean" }, doc: "Whether the pipeline may write in it.", otherwise: "false" },
    },
  },
  tool: {
    doc: "A tool that a module of the manifest brings.",
    fields: {
      module: {
        type: { type: "text", what: "path of a module (.ts, .js)" },
        required: true,
        doc: "Module, relative to the file that names it.",
      },
      export: {
        type: text,
        doc: "Which export, a function `(arguments, { os, signal, idempotencyKey })`.",
        otherwise: "default",
      },
      description: { type: text, doc: "What the tool does." },
      input_schema: { type: schema, doc: "Arguments must fit it." },
      effect: {
        type: { type: "enum", values: ["pure", "idempotent", "once"] },
        doc: "What a call does to the world: nothing, nothing more when repeated with its key, or something that must not be repeated unknowingly.",
        otherwise: "once",
      },
    },
  },
  defaults: {
    doc: "What nodes have unless they say otherwise.",
    fields: {
      model: { type: template, doc: "Model of `llm` nodes." },
      temperature: { type: { type: "number", minimum: 0, maximum: 2 }, doc: "Temperature of `llm` nodes." },
      max_output_tokens: { type: count, doc: "Longest answer of `llm` nodes." },
      timeout: { type: duration, doc: "Time of one attempt of a node; of a map or a branch, of each node in it." },
      retry: {
        type: { type: "either", options: [count, { type: "object", name: "retry" }] },
        doc: "Retry policy of nodes; of a map or a branch, of each node in it.",
      },
      on_unknown: onUnknown,
    },
  },
  limits: {
    doc: "What a run may spend. 0 means nothing, an absent field no limit.",
    fields: {
      maxTotalTokens: { type: amount, doc: "Model tokens in and out." },
      maxInputTokens: { type: amount, doc: "Model tokens of requests." },
      maxOutputTokens: { type: amount, doc: "Model tokens of answers." },
      maxLlmCalls: { type: amount, doc: "Calls of models." },
      maxToolCalls: { type: amount, doc: "Calls of tools." },
      maxCostUsd: {
        type: { type: "number", minimum: 0 },
        doc: "Dollars. A model whose price nobody knows is then refused.",
        example: "0.50",
      },
      maxSpawns: { type: amount, doc: "Processes that it starts." },
      maxBytesWritten: { type: amount, doc: "Bytes written to files." },
      maxDurationMs: {
        type: duration,
        doc: "Time for which it runs, counted while a host runs it; it fails then with ETIMEDOUT.",
        example: "10m",
      },
      maxMemoryMb: {
        type: { type: "integer", minimum: 8, maximum: 1_048_576 },
        doc: "MiB of heap of each thread or process of the machine that it runs in, or starts; an inline run has that of its host.",
      },
      maxCpuMs: {
        type: duration,
        doc: "Processor time of each thread or process of the machine that it runs in, or starts.",
        example: "30s",
      },
      maxCallMs: { type: duration, doc: "Time of one model or tool call." },
      maxChildren: { type: amount, doc: "Living child processes at the same time." },
      maxContextTokens: { type: amount, doc: "Tokens of one request, estimated at four bytes each." },
      maxConcurrentCalls: { type: count, doc: "Model and tool calls at the same time." },
      warningThreshold: {
        type: { type: "number", minimum: 0, maximum: 1 },
        doc: "Share of a limit from which a warning is logged.",
        otherwise: "0.8",
      },
      onLimit: {
        type: { type: "enum", values: ON_LIMIT },
        doc: "What happens to a call that does not fit: it fails (EDQUOT), the run waits until somebody adds to its budget (`suspend`), its node is skipped, a cheaper model of `downgradeTo` is asked, a person is asked for more (`ask`), or the parent process is (`request`).",
        otherwise: "fail",
      },
      downgradeTo: { type: names, doc: "Models to ask in turn with `onLimit: downgrade`." },
      rates: {
        type: { type: "list", items: { type: "object", name: "rate" } },
        doc: "How much in how much time.",
      },
    },
  },
  rate: {
    doc: "How much of something in how much time.",
    fields: {
      resource: {
        type: { type: "enum", values: RATE_RESOURCES },
        doc: "What is counted.",
        otherwise: "modelCalls",
      },
      per: {
        type: { type: "enum", values: RATE_SCOPES },
        doc: "What has a window of its own.",
        otherwise: "process",
      },
      only: { type: text, doc: "Only models or tools whose name fits this glob." },
      max: { type: count, required: true, doc: "How much.", example: "60" },
      window: { type: duration, doc: "In how much time; of all but `concurrent`.", example: "1m" },
      kind: {
        type: { type: "enum", values: RATE_KINDS },
        doc: "No stretch of the window's length holds more (`window`), refilled evenly (`bucket`), or so many calls at a time (`concurrent`).",
        otherwise: "window",
      },
      burst: { type: count, doc: "What a bucket holds.", otherwise: "max" },
      onLimit: {
        type: { type: "enum", values: ["wait", "fail"] },
        doc: "A call beyond it waits, or fails with EAGAIN.",
        otherwise: "wait",
      },
    },
  },
  metadata: {
    doc: "What identifies the manifest.",
    fields: {
      name: {
        type: { type: "text", pattern: PIPELINE_NAME, what: "name" },
        required: true,
        doc: "Name of the pipeline; runs carry it.",
      },
      description: { type: text, doc: "What it is for." },
      labels: { type: { type: "map", values: text }, doc: "Names and values for tools and people." },
      annotations: { type: { type: "map", values: { type: "any" } }, doc: "Anything for tools." },
    },
  },
  spec: {
    doc: "What the pipeline does.",
    fields: {
      input_schema: { type: schema, doc: "The run's input must fit it; `default` of a property is filled in." },
      output_schema: { type: schema, doc: "The run's result must fit it." },
      defaults: { type: { type: "object", name: "defaults" }, doc: "What nodes have unless they say otherwise." },
      concurrency: { type: count, doc: "Nodes under way at the same time.", otherwise: "64" },
      mounts: {
        type: { type: "list", items: { type: "object", name: "mount" } },
        doc: "Folders of the machine that the pipeline reads.",
      },
      tools: {
        type: { type: "map", values: { type: "object", name: "tool" } },
        doc: "Tools of modules, for `tool` nodes.",
      },
      caps: {
        type: names,
        doc: "Grants and profiles that runs are narrowed to, whoever starts them: `llm`, `tool:NAME`, `fs.read:/srv/**`, `ask tool.call:send`, `deny net.connect`. Runs may always record their own steps.",
        otherwise: "all that who starts it may do",
        example: "[llm, tool:read_file, fs.read:/srv/**]",
      },
      limits: {
        type: { type: "object", name: "limits" },
        doc: "What a run may spend, and what happens then. Held before each call, over restarts too.",
        otherwise: "no limits of its own",
        example: "{ maxCostUsd: 0.50, maxLlmCalls: 20 }",
      },
      nodes: {
        type: { type: "list", items: { type: "node" }, minItems: 1 },
        required: true,
        doc: "The nodes. One starts as soon as what it reads is there.",
      },
      output: {
        type: expressions,
        doc: "The result of the run, from the outputs of nodes.",
        otherwise: "the output of the last nodes",
        example: "{ summary: summary, count: files | length }",
      },
      epilogue: { type: template, doc: "Lines for people after a run of `ergos run`; `output` is in scope." },
    },
  },
  policy: {
    doc: "A policy: who may do what, beside the rights of processes. It can only refuse or ask.",
    fields: {
      apiVersion: { type: { type: "enum", values: [API_VERSION] }, required: true, doc: "Version of the manifest." },
      kind: { type: { type: "enum", values: ["Policy"] }, required: true, doc: "Kind of the manifest." },
      metadata: { type: { type: "object", name: "metadata" }, required: true, doc: "What identifies the manifest." },
      spec: { type: { type: "object", name: "policy_spec" }, required: true, doc: "What the policy says." },
    },
  },
  policy_spec: {
    doc: "What a policy says. A rule that denies wins over one that asks, and that over what allows: a rule, a role of the user, or a relation.",
    fields: {
      default: {
        type: { type: "enum", values: ["allow", "deny"] },
        doc: "What happens to a call that nothing is said about.",
        otherwise: "deny",
      },
      roles: { type: { type: "map", values: names }, doc: "Grants and profiles by the name of a role." },
      users: { type: { type: "map", values: names }, doc: "Roles by user; `*` is everybody." },
      rules: {
        type: { type: "list", items: { type: "object", name: "policy_rule" } },
        doc: "Rules over attributes of a call.",
      },
      relations: {
        type: { type: "object", name: "policy_relations" },
        doc: "Who is related to what, and which calls that allows.",
      },
    },
  },
  policy_rule: {
    doc: "A rule.",
    fields: {
      effect: { type: { type: "enum", values: ["allow", "ask", "deny"] }, required: true, doc: "What it does." },
      grant: {
        type: text,
        required: true,
        doc: "Right and resource that it is about, or a profile.",
        example: "fs.*:/home/**",
      },
      when: {
        type: expression,
        doc: "Only when this is true; `user`, `resource`, `right`, `call`, `args`, `group`, `process`, `hour` (UTC) are in scope.",
        example: "not resource.startswith('/home/' ~ user ~ '/')",
      },
      reason: { type: text, doc: "What is said to whoever is refused or asked." },
    },
  },
  policy_relations: {
    doc: "Relations of users and objects.",
    fields: {
      tuples: {
        type: names,
        doc: "`object#relation@user`, or `object#relation@object#relation` for all who are in that.",
        example: "[doc:/srv/a#viewer@jane, team:eng#member@jane]",
      },
      rewrites: {
        type: { type: "map", values: names },
        doc: "What a relation follows from: other relations to the same object, or `parent.viewer`: the relation to what the object has as `parent`.",
        example: "{ viewer: [editor, parent.viewer] }",
      },
      checks: {
        type: { type: "list", items: { type: "object", name: "relation_check" } },
        doc: "Which calls a relation allows.",
      },
    },
  },
  relation_check: {
    doc: "A call that a relation allows.",
    fields: {
      grant: { type: text, required: true, doc: "Right and resource that it is about." },
      object: {
        type: expression,
        required: true,
        doc: "Names the object.",
        example: "'doc:' ~ resource",
      },
      relation: { type: text, required: true, doc: "The relation that the user must be in to it." },
    },
  },
  pipeline: {
    doc: "A pipeline: nodes, and the edges that follow from what they read.",
    fields: {
      apiVersion: { type: { type: "enum", values: [API_VERSION] }, required: true, doc: "Version of the manifest." },
      kind: { type: { type: "enum", values: ["Pipeline"] }, required: true, doc: "Kind of the manifest." },
      metadata: { type: { type: "object", name: "metadata" }, required: true, doc: "What identifies the manifest." },
      spec: { type: { type: "object", name: "spec" }, required: true, doc: "What the pipeline does." },
    },
  },
};

/** All fields of a node of a kind. A body's node may leave out its name. */
export function nodeFields(kind: NodeKind, isNamed: boolean): Fields {
  const common = isNamed ? COMMON_NODE_FIELDS : { ...COMMON_NODE_FIELDS, name: { ...name, required: false } };
  return { ...common, ...NODE_SPECS[kind].fields };
}

export const isNodeKind = (text: string | undefined): text is NodeKind => NODE_KINDS.some((kind) => kind === text);
