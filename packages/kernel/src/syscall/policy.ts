// What the policy of a host says of calls, and of what a row comes upon only while it acts.
//
// G1  The policy is asked about every need of a call of anybody but the owner, whose policy it is, and the services that
//     the owner has installed; not about what a process does to itself alone.
// G2  A policy that fails has allowed nothing.
// G3  In the middle of a call nobody is asked and no use is taken: what is not allowed plainly is refused.

import type { GovernanceVerdict } from "../abi/governance.ts";
import { KernelError, describe } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import type { Process } from "../proc/process.ts";
import { servedFor } from "../service/life.ts";
import type { Host } from "./host.ts";

export interface Need {
  readonly right: string;
  readonly resource: string;
}

/** Whether somebody else than its rights decides what a process may do. */
export const isGoverned = (host: Host, process: Process): boolean =>
  host.governance !== undefined && process.pid !== PID_OWNER && !isOwnersService(process);

/** Started by the table of services for the owner; whose child it is by now says nothing. */
const isOwnersService = ({ program }: Process): boolean => program !== undefined && servedFor(program) === PID_OWNER;

/** Whether a process may do everything. */
export const isFree = (host: Host, caller: Process): boolean => caller.capability.isAll && !isGoverned(host, caller);

/** What the policy says of one need of a call; its reason names the policy. */
export async function verdictOf(
  host: Host,
  caller: Process,
  call: string,
  need: Need,
  args: unknown,
): Promise<GovernanceVerdict> {
  const { governance } = host;
  if (governance === undefined || !isGoverned(host, caller)) return { effect: "allow", reason: "nothing is governed" };
  const { user, group, name: process } = caller.identity;
  const at = host.committer.now();
  const { right, resource } = need;
  const request = { user, pid: caller.pid, process, call, right, resource, args, at };
  try {
    const { effect, reason } = await governance.authorize(group === undefined ? request : { ...request, group });
    return { effect, reason: `policy ${governance.name}: ${reason}` };
  } catch (error) {
    return { effect: "deny", reason: `policy ${governance.name} failed: ${describe(error)}` };
  }
}

/**
 * Why a process may not do one more thing within a call, or nothing when it may.
 * @param isSame it is what the call has its right for: what was asked for and counted then is not again
 */
export async function obstacleTo(
  host: Host,
  caller: Process,
  call: string,
  need: Need,
  args: unknown = {},
  isSame = false,
): Promise<string | undefined> {
  const { effect, counted } = caller.capability.decide(need.right, need.resource, args, isSame);
  const isPlain = effect === "allow" && counted.length === 0;
  if (isSame ? effect === "deny" : !isPlain) return `it needs the grant ${need.right}:${need.resource}`;
  const verdict = await verdictOf(host, caller, call, need, args);
  return verdict.effect === "allow" || (isSame && verdict.effect === "ask") ? undefined : verdict.reason;
}

/** @throws {EACCES} the process may not do one more thing within a call */
export async function assertMay(host: Host, caller: Process, call: string, need: Need, args?: unknown): Promise<void> {
  const why = isFree(host, caller) ? undefined : await obstacleTo(host, caller, call, need, args);
  if (why !== undefined) throw refused(host, caller, call, need, why);
}

/**
 * Looks at a right again that a call had when it began: what was asked for, counted or heard from the policy then, is
 * not again.
 * @throws {EACCES} it was revoked meanwhile, or is over
 */
export function assertStill(host: Host, caller: Process, call: string, need: Need, args: unknown): void {
  const { capability } = caller;
  if (capability.isAll || capability.decide(need.right, need.resource, args, true).effect !== "deny") return;
  throw refused(host, caller, call, need, "it could when the call began, and cannot any more");
}

/** As {@link assertStill}, once the caller goes on: it may have been stopped, or frozen, while its call waited. */
export async function mayGoOn(
  host: Host,
  caller: Process,
  call: string,
  need: Need,
  { args, signal }: { readonly args: unknown; readonly signal: AbortSignal },
): Promise<void> {
  if (caller.isHalted) await caller.goesOn(signal, true);
  assertStill(host, caller, call, need, args);
}

/** Tells of a denial, and makes the error. */
export function refused(host: Host, caller: Process, call: string, need: Need, why: string): KernelError {
  tellDenial(host, caller, call, need);
  const { resource } = need;
  return new KernelError(
    "EACCES",
    `process ${caller.pid} (${caller.identity.name}) may not ${call} ${resource}; ${why}`,
    { syscall: call, path: resource, pid: caller.pid },
  );
}

/** Every denial is an event and an audit record. */
export function tellDenial(host: Host, caller: Process, call: string, { right, resource }: Need): void {
  const { pid } = caller;
  host.bus.publish({
    name: "capability.denied",
    pid,
    data: { right, resource, syscall: call, missing: `${right}:${resource}` },
  });
  host.audit.denied({ pid, user: caller.identity.user, call, payload: { right, resource } }, "EACCES");
}
