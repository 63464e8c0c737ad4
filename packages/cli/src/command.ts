// A command: what it is called, what it takes, what it does.

import type { ParseArgsOptionsConfig } from "node:util";
import { KernelError, isKernelError, parseGrants, plainMessage } from "@ergos/kernel";
import type { ErgOs } from "./connect.ts";
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
  /** How many arguments beside the options it takes; any number unless given. */
  readonly arguments?: number;
  /** Runs the command; the number is its exit status. */
  readonly run: (invocation: Invocation) => Promise<number>;
}

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** Opens the directory for a question or an order, not to run programs. With `serve`, others reach it meanwhile. */
export async function openDirectory(invocation: Invocation, serve = false): Promise<ErgOs> {
  // Loaded when it is needed: commands about manifests start without a store.
  const { connect } = await import("./connect.ts");
  const { ERGOS_PASS: pass } = process.env;
  const seat = pass === undefined || pass === "" ? {} : { pass };
  // Who has a pass may have to ask first, and others can answer only what is served.
  return connect({ dir: invocation.dir, resume: false, serve: serve || "pass" in seat, ...seat });
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
  const out: Record<string, unknown> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at <= 0) throw new UsageError(`--${option} takes key=value, found ${JSON.stringify(pair)}`);
    const [name, text] = [pair.slice(0, at), pair.slice(at + 1)];
    out[name] = texts.has(name) ? text : asValue(text);
  }
  return out;
}

/** Numbers, booleans, null, objects and arrays as JSON; everything else is text. */
function asValue(text: string): unknown {
  if (!/^(-?\d|true$|false$|null$|[[{"])/.test(text)) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

export const isSet = (invocation: Invocation, name: string): boolean => invocation.values[name] === true;

export function textOption(invocation: Invocation, name: string): string | undefined {
  const value = invocation.values[name];
  return typeof value === "string" ? value : undefined;
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
