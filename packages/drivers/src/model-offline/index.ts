// `@ergos/drivers/model-offline`: a model without a model. No network, no key, the same answer every time.
//
// It does two tasks well enough to be useful (an extractive summary, a classification by key words), asks for a tool
// that it must use or whose name was mentioned, and answers whatever else with a script or with a sentence that says
// what it is. Its usage is counted like that of a real model, at about four characters a token, and costs nothing.

import {
  KernelError,
  type Model,
  type ModelRequest,
  type ModelResponse,
  type ModelTool,
  type Schema,
} from "@ergos/kernel";
import { fill } from "./fill.ts";
import { countWords, sentencesOf, stem, wordsOf } from "./text.ts";

/** What a scripted model says: a text, or calls of tools with a text beside them. */
export type OfflineReply = string | { readonly text?: string; readonly toolCalls: readonly OfflineToolCall[] };

export interface OfflineToolCall {
  readonly name: string;
  /** A text stands for itself, as JSON that is none. */
  readonly arguments: Readonly<Record<string, unknown>> | string;
}

export interface OfflineModelOptions {
  readonly name?: string;
  /** Replies by order of calls, or by what the last message says; for tests. */
  readonly script?: readonly OfflineReply[] | ((request: ModelRequest, call: number) => OfflineReply | undefined);
  /** Milliseconds that each answer takes. */
  readonly delayMs?: number;
  /** As the model is to be treated: `pure` is the truth, the others let tests see what a paid model causes. */
  readonly effect?: Model["effect"];
  readonly price?: Model["price"];
}

const CHARACTERS_PER_TOKEN = 4;
/** Characters of what a tool has told that an answer repeats. */
const TOLD_MAX = 1000;
const FREE: Model["price"] = { input: 0, output: 0 };

export function createOfflineModel(options: OfflineModelOptions = {}): Model {
  let calls = 0;
  return {
    name: options.name ?? "offline",
    description: "offline stand-in: extractive summaries and key-word classification, not a language model",
    effect: options.effect ?? "pure",
    price: options.price ?? FREE,
    health: () =>
      Promise.resolve({
        ok: true,
        detail: "built in; answers are extracted from the input by rules, no language model is asked",
      }),
    infer: async (request, { signal, onText }) => {
      const call = calls++;
      if (options.delayMs !== undefined) await sleep(options.delayMs, signal);
      signal.throwIfAborted();
      const response = respond(request, answer(request, call, options.script));
      // Word by word, as a model does that makes its answer as it goes.
      if (onText !== undefined) for (const word of response.text.match(/\s*\S+|\s+$/g) ?? []) onText(word);
      return response;
    },
  };
}

function respond(request: ModelRequest, reply: OfflineReply): ModelResponse {
  const charactersMax = (request.maxOutputTokens ?? Number.POSITIVE_INFINITY) * CHARACTERS_PER_TOKEN;
  const full = typeof reply === "string" ? reply : (reply.text ?? "");
  const text = full.length > charactersMax ? full.slice(0, charactersMax) : full;
  const isCut = text.length < full.length;
  const input = request.messages.reduce((sum, message) => sum + message.content.length, 0);
  // Numbered over the conversation: an identifier means one call in it.
  const toolCalls =
    typeof reply === "string" || isCut
      ? []
      : reply.toolCalls.map(({ name, arguments: args }, at) => ({
          id: `call-${request.messages.length}-${at + 1}`,
          name,
          arguments: typeof args === "string" ? args : JSON.stringify(args),
        }));
  const written = toolCalls.reduce((sum, call) => sum + call.name.length + call.arguments.length, text.length);
  return {
    text,
    ...(toolCalls.length === 0 ? {} : { toolCalls }),
    finishReason: isCut ? "length" : toolCalls.length > 0 ? "tools" : "stop",
    usage: { inputTokens: tokens(input), outputTokens: tokens(written) },
  };
}

const tokens = (characters: number): number => Math.ceil(characters / CHARACTERS_PER_TOKEN);

function answer(request: ModelRequest, call: number, script: OfflineModelOptions["script"]): OfflineReply {
  const scripted = typeof script === "function" ? script(request, call) : script?.[call];
  if (scripted !== undefined) return scripted;
  if (Array.isArray(script))
    throw new KernelError(
      "EIO",
      `the script of the offline model has ${script.length} replies, and this is call ${call + 1}`,
    );
  const tool = toolFor(request);
  if (tool !== undefined)
    return { toolCalls: [{ name: tool.name, arguments: form(tool.inputSchema, request) as Record<string, unknown> }] };
  const { task, responseSchema } = request;
  if (responseSchema !== undefined) return JSON.stringify(form(responseSchema, request));
  switch (task?.kind) {
    case "summarise":
      return summarise(task.text, task.sentences);
    case "classify":
      return classify(task.text, task.labels);
    case undefined: {
      const last = request.messages.at(-1);
      // What a tool has told is no prose.
      const said = last?.role === "tool" ? last.content.slice(0, TOLD_MAX) : summarise(last?.content ?? "", 1);
      return `[offline model, no language model is connected] ${said}`.trim();
    }
    default:
      return task satisfies never;
  }
}

/** The tool that it must ask for, or the one whose name the last message of the user mentions. */
function toolFor({ tools = [], toolChoice = "auto", messages }: ModelRequest): ModelTool | undefined {
  const last = messages.at(-1);
  // What it has asked for has been told: it goes on to an answer.
  if (last?.role !== "user" || toolChoice === "none") return undefined;
  const mentioned = tools.find(({ name }) => last.content.includes(name));
  if (toolChoice === "auto") return mentioned;
  if (toolChoice === "required") return mentioned ?? tools[0];
  return tools.find(({ name }) => name === toolChoice.tool);
}

/** A form is filled in from the text of the task, or from what was asked last. */
function form(schema: Schema, request: ModelRequest): unknown {
  const { task } = request;
  const text = task?.text ?? request.messages.findLast(({ role }) => role === "user")?.content ?? "";
  // Labels of a task come with their key words, which the bare names in a schema lack.
  const labels = task?.kind === "classify" ? task.labels : [];
  return fill(schema, text, {
    classify: (read, names) =>
      classify(
        read,
        names.map((name) => labels.find((label) => label.split(":")[0] === name) ?? name),
      ),
    summarise: (read, sentences) => summarise(read, sentences),
  });
}

/** The sentences that carry the most of the text's frequent words, in the order of the text. */
export function summarise(text: string, count: number): string {
  const sentences = sentencesOf(text);
  const counts = countWords(wordsOf(sentences.join(" ")));
  const scored = sentences.map((sentence, at) => {
    const words = wordsOf(sentence);
    const weight =
      words.reduce((sum, word) => sum + Math.log1p(counts.get(word) ?? 0), 0) / Math.sqrt(words.length + 4);
    // What opens a text usually says what it is about.
    return { sentence, at, score: weight * (at === 0 ? 1.6 : at < 4 ? 1.2 : 1) };
  });
  const best = scored.toSorted((a, b) => b.score - a.score || a.at - b.at).slice(0, Math.max(0, count));
  return best
    .toSorted((a, b) => a.at - b.at)
    .map(({ sentence }) => sentence)
    .join(" ");
}

/** The label whose words the text mentions most for its length. A label may list its key words: `testing: test runner mock`. */
export function classify(text: string, labels: readonly string[]): string {
  const counts = countWords(wordsOf(text));
  let best = { label: labels.at(-1)?.split(":")[0]?.trim() ?? "", score: 0 };
  for (const entry of labels) {
    const [label = "", keys = label] = entry.split(":");
    const words = [
      ...new Set(
        keys
          .toLowerCase()
          .split(/[\s,]+/)
          .filter((word) => word !== "")
          .map(stem),
      ),
    ];
    const score =
      words.reduce((sum, word) => sum + Math.log1p(counts.get(word) ?? 0), 0) / Math.sqrt(words.length || 1);
    if (score > best.score) best = { label: label.trim(), score };
  }
  return best.label;
}

function sleep(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, delayMs);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
