// A command: what it is called, what it takes, what it does.

import { setTimeout as delay } from "node:timers/promises";
import type { ParseArgsOptionsConfig } from "node:util";
import { parseDuration } from "@ergos/compiler/duration";
import { KernelError, LIMITS, isKernelError, parseGrants, plainMessage } from "@ergos/kernel";
import type { ErgOs } from "./connect.ts";
import { onEnding } from "./ending.ts";
import type { Output } from "./terminal.ts";

export interface Invocation {
  readonly positionals: readonly string[];
  readonly values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  /** The data directory. */
  readonly dir: string;
  readonly out: Output;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** What follows the name, as `<path> [--recursive]`. */
  readonly usage: string;
  readonly examples: readonly string[];
  readonly options?: ParseArgsOptionsConfig;
  /** It is about what is in a data directory, always or with these arguments: it makes none. */
  readonly needsData?: true | ((positionals: readonly string[]) => boolean);
  /** How many arguments beside the options it takes; any number unless given. */
  readonly arguments?: number;
  /** Runs the command; the number is its exit status. */
  readonly run: (invocation: Invocation) => Promise<number>;
}

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/**
 * Opens the directory for a question or an order, not to run programs. With `serve`, others reach it meanwhile, and it
 * stays open until what they have started here has ended.
 */
export async function openDirectory(invocation: Invocation, serve = false): Promise<ErgOs> {
  // Loaded when it is needed: commands about manifests start without a store.
  const { connect } = await import("./connect.ts");
  const { ERGOS_PASS: pass } = process.env;
  const seat = pass === undefined || pass === "" ? {} : { pass };
  // Who has a pass may have to ask first, and others can answer only what is served.
  const opening = connect({ dir: invocation.dir, idle: true, serve: serve || "pass" in seat, ...seat });
  const os = await patiently(invocation, opening);
  if (!serve || os.isRemote) return os;
  const close = async (): Promise<void> => {
    await waitForOthers(os, invocation.out);
    await os.close();
  };
  return { ...os, close, [Symbol.asyncDispose]: close };
}

/** What is silent for this long is told of. */
const SILENT_MS = 2000;

/** Waits for a host, and says so where that takes long. */
export async function patiently<T>({ dir, out }: Invocation, opening: Promise<T>): Promise<T> {
  const notice = setTimeout(() => {
    out.error(`still opening ${dir}: if another process is its host, that is stopped or busy, and does not answer`);
  }, SILENT_MS);
  try {
    return await opening;
  } finally {
    clearTimeout(notice);
  }
}

/** Time for other commands to collect the results of their runs. */
const COLLECT_MS = 300;

/** Runs that other commands have started here need this host until they end. Ctrl-C puts them to sleep. */
export async function waitForOthers(os: ErgOs, out: Output): Promise<void> {
  if (os.isRemote) return;
  const interrupted = Promise.withResolvers<"interrupted">();
  const stop = (): void => interrupted.resolve("interrupted");
  const unhear = onEnding(stop);
  try {
    for (;;) {
      // Whoever came with a narrow pass may not see them.
      const all = await os.ps().catch(() => []);
      const others = all.filter(
        // Whoever came with a pass has a process of its own.
        ({ pid, ppid, state }) => ppid !== undefined && pid !== os.pid && (state === "running" || state === "waiting"),
      );
      const [next] = others;
      if (next === undefined) return;
      // Beside what the command has to say.
      out.error(`still the host of ${others.map(({ runId }) => runId).join(", ")}; Ctrl-C puts them to sleep`);
      // Who may not wait for it does not.
      const over = os.wait(next.pid).catch(() => "interrupted" as const);
      if ((await Promise.race([over, interrupted.promise])) === "interrupted") return;
      // Whoever waited for it asks once more how it went.
      await delay(COLLECT_MS);
    }
  } finally {
    unhear();
  }
}

/** The positional argument at a place. */
export function required(invocation: Invocation, at: number, what: string): string {
  const value = invocation.positionals[at];
  if (value === undefined) throw new UsageError(`${what} is missing`);
  return value;
}

/**
 * `key=value` pairs as an object. Values are JSON where they look like it, else text; those of `texts` are
 * always text.
 */
export function readPairs(
  option: string,
  pairs: readonly string[],
  texts: ReadonlySet<string> = new Set(),
): Record<string, unknown> {
  // Whatever a name says, it is a field.
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at <= 0) throw new UsageError(`--${option} takes key=value, found ${JSON.stringify(pair)}`);
      const [name, text] = [pair.slice(0, at), pair.slice(at + 1)];
      return [name, texts.has(name) ? text : asValue(text)];
    }),
  );
}

/** Numbers, booleans, null, objects and arrays as JSON; everything else is text. */
function asValue(text: string): unknown {
  if (!/^(-?\d|true$|false$|null$|[[{"])/.test(text)) return text;
  try {
    const value = JSON.parse(text) as unknown;
    // What a number cannot hold, as a long identifier, was none.
    return typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(text) ? text : value;
  } catch {
    return text;
  }
}

export const isSet = (invocation: Invocation, name: string): boolean => invocation.values[name] === true;

export function textOption(invocation: Invocation, name: string): string | undefined {
  const value = invocation.values[name];
  return typeof value === "string" ? value : undefined;
}

/** A whole number of an option. An empty text, as of a variable that is not set, is none. */
export function wholeOption(
  invocation: Invocation,
  name: string,
  fallback: number,
  least = 1,
  most = Number.MAX_SAFE_INTEGER,
): number {
  const text = textOption(invocation, name);
  if (text === undefined) return fallback;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  const bound = most === Number.MAX_SAFE_INTEGER ? "" : `, and at most ${most}`;
  throw new UsageError(`--${name} takes a whole number of at least ${least}${bound}; found ${JSON.stringify(text)}`);
}

/** How many of what is listed are shown; one call gives no more than a page. */
export const limitOption = (invocation: Invocation, fallback: number, most: number = LIMITS.pageMax): number =>
  wholeOption(invocation, "limit", fallback, 1, most);

/** An option that is an instant, or how long ago that was: wall-clock milliseconds. */
export function instantOption(invocation: Invocation, name: string): number | undefined {
  const text = textOption(invocation, name);
  if (text === undefined) return undefined;
  const ms = /[a-z]\s*$/.test(text) ? parseDuration(text) : undefined;
  if (ms !== undefined) return Math.max(0, Math.round(Date.now() - ms));
  const instant = Date.parse(text);
  // Other texts are dates of some year to an engine.
  if (/^\d{4}-\d\d/.test(text) && Number.isFinite(instant)) return Math.max(0, instant);
  throw new UsageError(
    `--${name} takes a date, as 2026-11-01 or 2026-11-01T18:00:00Z, or how long ago that was, as 30m, 2h or 7d; found ${text}`,
  );
}

/** Milliseconds of an option that is a duration, at least so many. */
export function durationOption(invocation: Invocation, name: string, least = 1): number | undefined {
  const text = textOption(invocation, name);
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  // Whoever writes 7 means days, or minutes, and hardly milliseconds.
  const hasUnit = ms === 0 || /[a-z]\s*$/.test(text);
  if (ms === undefined || ms < least || !hasUnit)
    throw new UsageError(`--${name} takes a duration with its unit, as 500ms, 30s, 15m, 2h or 7d; found ${text}`);
  return Math.round(ms);
}

/** One of several words. */
export function choiceOption<const Choice extends string>(
  invocation: Invocation,
  name: string,
  choices: readonly Choice[],
): Choice | undefined {
  const text = textOption(invocation, name);
  const found = choices.find((choice) => choice === text);
  if (text !== undefined && found === undefined)
    throw new UsageError(`--${name} takes ${choices.join(", ")}; found ${text}`);
  return found;
}

export function listOption(invocation: Invocation, name: string): readonly string[] {
  const value = invocation.values[name];
  return Array.isArray(value) ? value.map(String) : [];
}

/** Grants of an option that may stand several times, each of which is one. */
export function grantsOption(invocation: Invocation, name: string): readonly string[] {
  const texts = listOption(invocation, name);
  for (const text of texts) {
    try {
      parseGrants([text]);
    } catch (error) {
      throw isKernelError(error) ? new UsageError(`--${name}: ${plainMessage(error.message)}`) : error;
    }
  }
  return texts;
}

/** A call that was typed wrongly: the usage is shown beside the message. */
export class UsageError extends KernelError {
  constructor(message: string) {
    super("EINVAL", message);
  }
}
