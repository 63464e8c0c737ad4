// Cancellation helpers. Listeners are removed on every path.

import { KernelError } from "./errno.ts";

/** Settles as `promise` does, or rejects with the signal's reason as soon as it aborts. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => undefined);
    return Promise.reject(signal.reason);
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** Aborts `controller` when `parent` does; returns what undoes the link. */
export function linkSignal(parent: AbortSignal, controller: AbortController): () => void {
  if (parent.aborted) {
    controller.abort(parent.reason);
    return () => undefined;
  }
  const onAbort = (): void => controller.abort(parent.reason);
  parent.addEventListener("abort", onAbort, { once: true });
  return () => parent.removeEventListener("abort", onAbort);
}

/**
 * Hears what a promise comes to, as long as it wants to: a promise that lives long keeps whoever waits for it until it
 * settles. It must not reject.
 * @returns what tells `hear` when it settles, and gives what takes that back
 */
export function hearing<T>(promise: Promise<T>): (hear: (value: T) => void) => () => void {
  const hearers = new Set<(value: T) => void>();
  let settled: { readonly value: T } | undefined;
  void promise.then((value) => {
    settled = { value };
    for (const hear of hearers) hear(value);
    hearers.clear();
  });
  return (hear) => {
    if (settled === undefined) hearers.add(hear);
    else hear(settled.value);
    return () => void hearers.delete(hear);
  };
}

/** How deep an error is looked into for why it was thrown. */
const CAUSES_MAX = 16;

/** Whether an error comes of a signal's abort: it is the reason, was caused by it, or is the AbortError of Node's own calls. */
export function followsAbort(error: unknown, { aborted, reason }: AbortSignal): boolean {
  let at = error;
  for (let depth = 0; aborted && at instanceof Error && depth < CAUSES_MAX; depth++) {
    if (at === reason || at.name === "AbortError") return true;
    at = at.cause;
  }
  return false;
}

/** The reason with which the kernel cancels. */
export function cancelled(what: string): KernelError {
  return new KernelError("ECANCELED", what);
}
