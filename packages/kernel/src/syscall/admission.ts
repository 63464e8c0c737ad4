// Whether a call may go on: what its caller's rights say, what a person says, and what is left of counted uses.
//
// A1  Everything that is denied, by rights or by the policy, is refused before anybody is asked and any use is taken.
// A2  What a person has allowed or changed is looked at again: a right that was revoked meanwhile stays revoked.
// A3  A call whose outcome is recorded already acts no more: nobody is asked, and no use is taken.
// A4  What is acted on is what was looked at: while somebody is asked, the arguments are ours alone.
// A5  Who edits a call and may not do everything allows what it may do itself, and no more: for the rest is asked again.

import type { Decision, Explanation } from "../cap/capability.ts";
import { copyBytes } from "../base/bytes.ts";
import { KernelError } from "../base/errno.ts";
import type { Rule } from "../cap/layer.ts";
import type { Schema } from "../base/schema.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { type Need, refused, verdictOf } from "./policy.ts";
import type { Target } from "./row.ts";

/** A call of a process that may not do everything. */
export interface Admission {
  readonly caller: Process;
  readonly name: string;
  readonly args: unknown;
  readonly needs: readonly Need[];
  /** Those that the policy is asked about. */
  readonly governed: readonly Need[];
  /** What conditions of grants look at. */
  readonly conditions: unknown;
  /** Whether its outcome is recorded already. */
  readonly isDone: boolean;
  /** The place of a call that is recorded under one. */
  readonly place?: string;
  /** Of the arguments that the call has. */
  readonly schema: Schema;
  /** What the call would need with other arguments. */
  readonly needsWith: (args: unknown) => Promise<Needs>;
}

/** What a call with other arguments needs, and what conditions of grants look at. */
interface Needs {
  readonly needs: readonly Need[];
  readonly conditions: unknown;
}

/** What a person has allowed of an edited call: everything, or needs by their names. */
export type Allowed = "all" | ReadonlySet<string>;

/** What must still happen before an admitted call: questions to ask, uses to take. */
export interface Open {
  readonly asked: readonly Need[];
  readonly counted: readonly Rule[];
}

type Deny = (need: Need, explanation: Explanation) => KernelError;

/** The rights that a call needs, on its targets and on each link that led to them. */
export function needsOf(right: string, more: readonly Need[], target: Target): readonly Need[] {
  const { located, resource, second } = target;
  return [
    ...(located?.hops ?? []).map((hop) => ({ right: "fs.stat", resource: hop })),
    { right, resource },
    ...more,
    ...(second === undefined
      ? []
      : [
          ...second.located.hops.map((hop) => ({ right: "fs.stat", resource: hop })),
          { right: second.right, resource: second.resource },
        ]),
  ];
}

/**
 * Looks at every need of a call.
 * @returns what is open still, or nothing when the call may go on
 */
export function admit(admission: Admission, deny: Deny): Open | undefined {
  const { caller, needs, conditions } = admission;
  let asked: Need[] | undefined;
  let counted: Rule[] | undefined;
  for (const need of needs) {
    const decision: Decision = caller.capability.decide(need.right, need.resource, conditions);
    if (decision.effect === "deny") throw deny(need, caller.capability.explain(need.right, need.resource, conditions));
    if (decision.effect === "ask") (asked ??= []).push(need);
    if (decision.counted.length > 0) (counted ??= []).push(...decision.counted);
  }
  return asked === undefined && counted === undefined ? undefined : { asked: asked ?? [], counted: counted ?? [] };
}

/**
 * Hears the policy, asks for what must be asked, and takes the uses.
 * @param allowed what a person has allowed of the call already: for that nobody is asked again
 * @param answers of people, to forget once the call has its outcome: filled as they come
 * @returns arguments that a person put in the place of the call's, if one did, and what is allowed with them
 */
export async function settle(
  host: Host,
  admission: Admission,
  deny: Deny,
  allowed: Allowed | undefined,
  answers: number[],
): Promise<{ readonly args: unknown; readonly allowed: Allowed } | undefined> {
  const answered = new Set(allowed === "all" ? [] : allowed);
  for (;;) {
    const reasons = await policyAsks(host, admission);
    // Last, so that nothing comes between this look and the act.
    const open = admit(admission, deny);
    const need =
      allowed === "all" || admission.isDone
        ? undefined
        : admission.needs.find(
            (one) => (open?.asked.includes(one) === true || reasons.has(one)) && !answered.has(nameOf(one)),
          );
    if (need === undefined) {
      const counted = [...new Set(open?.counted)];
      if (admission.isDone || counted.length === 0 || (await host.layers.take(counted))) return undefined;
      continue;
    }
    const { edit, answer } = await askFor(host, admission, need, reasons.get(need));
    answers.push(answer);
    if (edit !== undefined) return edit;
    answered.add(nameOf(need));
  }
}

export const nameOf = ({ right, resource }: Need): string => `${right} ${resource}`;

/**
 * The needs that the policy wants a person to be asked for, with its reasons.
 * @throws {EACCES} it denies one
 */
async function policyAsks(host: Host, { caller, name, governed, conditions }: Admission): Promise<Map<Need, string>> {
  const reasons = new Map<Need, string>();
  for (const need of governed) {
    const { effect, reason } = await verdictOf(host, caller, name, need, conditions);
    if (effect === "deny") throw refused(host, caller, name, need, reason);
    if (effect === "ask") reasons.set(need, reason);
  }
  return reasons;
}

/** Asks a person for one need of a call. */
async function askFor(
  host: Host,
  admission: Admission,
  need: Need,
  reason: string | undefined,
): Promise<{ readonly edit?: { readonly args: unknown; readonly allowed: Allowed }; readonly answer: number }> {
  const { needsWith } = admission;
  const { caller, name, args, place, schema } = admission;
  const { place: _place, signal, ...shown } = args as { place?: unknown; signal?: unknown };
  const fields = Object.keys(schema.properties ?? {});
  const digest = digestOf(host, [name, need.right, need.resource, shown]);
  const edited = (value: unknown): unknown =>
    withEdit(args as object, value as object, name === "call" ? fields : undefined);
  const answer = await host.asks.raise(
    caller,
    {
      key: place === undefined ? `${name} ${digest}` : `${name} ${place} ${digest}`,
      kind: "right",
      text: `${caller.identity.runId} asks: may it ${name} ${need.resource}?${reason === undefined ? "" : ` (${reason})`}`,
      call: name,
      right: need.right,
      resource: need.resource,
      args: previewOf(shown, (one) => host.vault.maskText(one)),
      // Whatever a tool takes may be edited, and it alone knows what that is.
      ...(name === "call" ? {} : { fields }),
      // Without a journal nothing is recorded under a place.
      isLasting: place !== undefined && caller.journal !== undefined,
    },
    caller.signalWith(signal instanceof AbortSignal ? signal : undefined),
    (value) => needsWith(edited(value)),
  );
  if (answer.verdict === "allow") return { answer: answer.id };
  if (answer.verdict === "edit") {
    const allowed = answer.needs === undefined ? "all" : new Set(answer.needs);
    return { edit: { args: edited(answer.value), allowed }, answer: answer.id };
  }
  await host.asks.consume(answer.id);
  const { user } = caller.identity;
  host.audit.denied({ pid: caller.pid, user, call: name, payload: need }, "EACCES");
  throw new KernelError(
    "EACCES",
    `${answer.by} did not allow process ${caller.pid} (${caller.identity.name}) to ${name} ${need.resource}${answer.why === undefined ? "" : `: ${answer.why}`}`,
    { syscall: name, path: need.resource, pid: caller.pid },
  );
}

/** Arguments with what a person has put in their place; of a tool's call, the tool's own by their names too. */
function withEdit(args: object, edit: object, fields: readonly string[] | undefined): unknown {
  const ofTool = fields === undefined ? [] : Object.entries(edit).filter(([key]) => !fields.includes(key));
  if (ofTool.length === 0) return { ...args, ...edit };
  const own = Object.entries(edit).filter(([key]) => fields?.includes(key) === true);
  const merged = { ...args, ...Object.fromEntries(own) } as { readonly arguments?: object };
  return { ...merged, arguments: { ...merged.arguments, ...Object.fromEntries(ofTool) } };
}

/** Names a call with all its arguments: contents too. */
function digestOf(host: Host, call: readonly unknown[]): string {
  const json = stringify(call, (bytes) => ({ bytes: host.platform.hash(bytes) }));
  return host.platform.hash(json).slice(0, 16);
}

/** JSON with bytes as something else. They are taken from what holds them: some know a JSON of their own. */
function stringify(
  value: unknown,
  ofBytes: (bytes: Uint8Array) => unknown,
  ofText: (text: string) => string = (text) => text,
): string {
  return JSON.stringify(value, function (this: Readonly<Record<string, unknown>>, key, given: unknown) {
    const held = this[key];
    if (held instanceof Uint8Array) return ofBytes(held);
    return typeof given === "string" ? ofText(given) : given;
  });
}

const COPIED_DEPTH_MAX = 100;

/**
 * A copy of arguments that nobody else holds. Programs, signals and other objects with behaviour stay as they are.
 * @throws {EINVAL} they are nested too deeply, or in themselves
 */
export function ownCopy(value: unknown, depth = 0): unknown {
  if (value instanceof Uint8Array) return copyBytes(value);
  if (typeof value !== "object" || value === null) return value;
  if (depth > COPIED_DEPTH_MAX) throw new KernelError("EINVAL", "the arguments are nested too deeply");
  if (Array.isArray(value)) return value.map((item) => ownCopy(item, depth + 1));
  if (Object.getPrototypeOf(value) !== Object.prototype && Object.getPrototypeOf(value) !== null) return value;
  const copy: Record<PropertyKey, unknown> = {};
  for (const key of Reflect.ownKeys(value)) {
    if (key !== "__proto__") copy[key] = ownCopy((value as Record<PropertyKey, unknown>)[key], depth + 1);
  }
  return copy;
}

const PREVIEW_MAX = 4096;

/** Arguments as a person can judge them: JSON, bytes as text, cut where they are long. */
function previewOf(args: object, mask: (text: string) => string): unknown {
  // Before it is cut: a secret is not found any more in a part of it.
  const cut = (text: string): string => {
    const shown = mask(text);
    return shown.length <= PREVIEW_MAX ? shown : `${shown.slice(0, PREVIEW_MAX)}…`;
  };
  const textOf = (bytes: Uint8Array): string => cut(new TextDecoder().decode(bytes.subarray(0, 16 * PREVIEW_MAX)));
  const json = stringify(args, textOf, cut);
  return json.length <= 4 * PREVIEW_MAX ? (JSON.parse(json) as unknown) : { shown: cut(json) };
}

/** Which grant is missing, or what is in the way. */
export function denialOf({ caller, name }: Admission, need: Need, explanation: Explanation): KernelError {
  const { resource } = need;
  const details = { syscall: name, path: resource, pid: caller.pid };
  const who = `process ${caller.pid} (${caller.identity.name}) may not ${name} ${resource}`;
  const forbidding = explanation.layers.find((layer) => layer.effect === "deny");
  if (forbidding?.grant !== undefined)
    return new KernelError(
      "EACCES",
      `${who}; the grant \`${forbidding.grant}\` (${forbidding.id ?? ""}) forbids it`,
      details,
    );
  const where = whoseLayer(forbidding?.layer ?? "", caller.pid);
  const near = forbidding?.near === undefined ? "" : `; ${forbidding.near.join("; ")}`;
  return new KernelError("EACCES", `${who}; it needs the grant ${need.right}:${resource}${where}${near}`, details);
}

/** Who else lacks it, where it is not the process alone. */
function whoseLayer(layer: string, pid: Process["pid"]): string {
  const [holder = ""] = layer.split(".");
  if (holder.startsWith("pass-")) return ", which its pass does not give";
  return holder === "" || holder === "0" || holder === String(pid)
    ? ""
    : `, which process ${holder} above it lacks too`;
}
