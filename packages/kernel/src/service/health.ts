// Checks of a service: when they are made, and what becomes of one that fails them.

import type { Platform } from "../abi/platform.ts";
import { type ErrorRecord, KernelError, plainMessage, toErrorRecord } from "../base/errno.ts";
import type { Life } from "./life.ts";
import type { Health } from "./service.ts";
import type { Check, Unit } from "./unit.ts";

const DEFAULTS = { everyMs: 30_000, timeoutMs: 5000, failures: 3 };

/** Ends a service for good; the process that it belongs to is told, where its policy says so. */
export type GiveUp = (unit: Unit, life: Life, error: ErrorRecord, isEscalated: boolean) => Promise<void>;

/** Looks every so often how a service is, and does what its policy says. */
export function watchHealth(unit: Unit, life: Life, platform: Platform, giveUp: GiveUp): void {
  if (life.instance?.check === undefined) return;
  const { everyMs = DEFAULTS.everyMs, failures = DEFAULTS.failures, watchdog = "restart" } = life.module.health ?? {};
  const look = async (): Promise<void> => {
    const check = await probe(unit, life, platform);
    if (unit.life !== life) return;
    if (check.failures < failures) return watchHealth(unit, life, platform, giveUp);
    const why = `service ${unit.name} has failed ${check.failures} checks: ${check.note ?? ""}`;
    const error = new KernelError("EFAILED", why);
    if (watchdog === "restart") life.fail(error);
    else await giveUp(unit, life, toErrorRecord(error), watchdog === "escalate");
  };
  unit.later(everyMs, () => void look().catch(() => undefined));
}

/** Looks now how a service is. */
export async function probe(unit: Unit, life: Life, { clock }: Platform): Promise<Check> {
  const began = clock.monotonic();
  const { timeoutMs = DEFAULTS.timeoutMs } = life.module.health ?? {};
  let found: Health | undefined;
  let error: ErrorRecord | undefined;
  try {
    found = await life.within(timeoutMs, "check()", (async () => life.instance?.check?.())());
  } catch (thrown) {
    error = toErrorRecord(thrown);
  }
  const note = error === undefined ? found?.note : plainMessage(error.message);
  const check: Check = {
    at: clock.now(),
    ok: error === undefined,
    ready: error === undefined && found?.ready !== false,
    ...(note === undefined ? {} : { note }),
    ms: Math.round(clock.monotonic() - began),
    failures: error === undefined ? 0 : (unit.health?.failures ?? 0) + 1,
  };
  if (unit.life !== life) return check;
  unit.health = check;
  if (unit.state === "ready" && check.ok && !check.ready) unit.become("degraded", note ?? "it is not ready");
  else if (unit.state === "degraded" && check.ready) unit.become("ready");
  return check;
}
