// Calls of services: made to a life that is ready, and ended with it.

import type { Platform, Timer } from "../abi/platform.ts";
import { linkSignal, orAborted } from "../base/abort.ts";
import { KernelError, describe, isKernelError } from "../base/errno.ts";
import { assertValid } from "../base/schema.ts";
import type { Process } from "../proc/process.ts";
import type { Life } from "./life.ts";
import type { ServiceCall } from "./service.ts";
import type { Unit } from "./unit.ts";

/** How long a call waits for a service that is on its way. */
const CALL_WAIT_MS = 10_000;

export interface Request {
  readonly method: string;
  readonly args: unknown;
  readonly caller: Process;
  readonly os: ServiceCall["os"];
  readonly signal: AbortSignal | undefined;
}

/**
 * Calls a method of a service on behalf of a process.
 * @throws {ENOSYS} it has no such method · {ECONNREFUSED} it does not run · {EAGAIN} it was not ready in time
 * @throws {ECONNRESET} it ended before it answered
 */
export async function callUnit(unit: Unit, request: Request, platform: Platform): Promise<unknown> {
  const { caller, signal } = request;
  const aborted = new AbortController();
  const unlink = [caller.callSignal, ...(signal === undefined ? [] : [signal])].map((one) => linkSignal(one, aborted));
  try {
    // What a service asks of itself while it is exchanged is part of a call that the exchange waits for.
    const own = unit.life?.process === caller ? enter(unit.life) : undefined;
    const { life, leave } = own ?? (await enterReady(unit, aborted.signal, platform));
    try {
      return await orAborted(invoke(life, { ...request, signal: aborted.signal }), aborted.signal);
    } finally {
      unit.calls++;
      leave();
    }
  } finally {
    for (const undo of unlink) undo();
  }
}

async function invoke(
  life: Life,
  { method, args, caller, os, signal }: Request & { readonly signal: AbortSignal },
): Promise<unknown> {
  const { contract, name } = life.module;
  if (!Object.hasOwn(contract.methods, method)) {
    const known = Object.keys(contract.methods).join(", ") || "no calls";
    throw new KernelError("ENOSYS", `service ${name} has no ${method}; it has ${known}`, { syscall: "callService" });
  }
  const { input } = contract.methods[method] ?? {};
  if (input !== undefined) assertValid(input, args, `the arguments of ${name}.${method}`);
  // It keeps its contract: that was checked when it was made.
  const members = life.instance as unknown as Readonly<Record<string, (args: unknown, call: ServiceCall) => unknown>>;
  const over = Promise.withResolvers<never>();
  const unhear = life.onEnded(() => {
    const details = { syscall: "callService", mayHaveActed: true };
    over.reject(new KernelError("ECONNRESET", `service ${name} has ended before it answered ${method}`, details));
  });
  const answer = (async () => members[method]?.(args, { pid: caller.pid, os, signal }))().catch((error: unknown) => {
    // Whatever its code throws has a code, and names neither the kernel's disk nor its rights.
    throw isKernelError(error) ? error : new KernelError("EFAILED", describe(error), { cause: error });
  });
  return Promise.race([answer, over.promise]).finally(unhear);
}

interface Entered {
  readonly life: Life;
  readonly leave: () => void;
}

const enter = (life: Life): Entered => ({ life, leave: life.enter() });

/** Enters the life that takes calls, now or within the time that a call waits: in the turn in which it is seen ready (V5). */
async function enterReady(unit: Unit, signal: AbortSignal, platform: Platform): Promise<Entered> {
  const late = Promise.withResolvers<"late">();
  let timer: Timer | undefined;
  try {
    while (unit.state !== "ready" || unit.life === undefined) {
      const { name, state, why } = unit;
      const because = why === undefined ? "" : `: ${why}`;
      if (state === "stopped" || state === "failed")
        throw new KernelError(
          "ECONNREFUSED",
          `service ${name} is ${state}${because}; \`ergos service start ${name}\` starts it`,
        );
      timer ??= platform.setTimer(CALL_WAIT_MS, () => late.resolve("late"));
      const first = await orAborted(Promise.race([unit.changed, late.promise]), signal);
      if (first === "late")
        throw new KernelError("EAGAIN", `service ${name} is ${state}${because}, for ${CALL_WAIT_MS} ms`);
    }
    return enter(unit.life);
  } finally {
    timer?.cancel();
  }
}
