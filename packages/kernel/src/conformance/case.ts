// The form of a conformance suite: data, free of any test runner. A driver's test opens the driver and
// registers every case.

import { KernelError, type Errno, isKernelError } from "../base/errno.ts";

export interface ConformanceCase<Subject> {
  /** A sentence about the contract. */
  readonly name: string;
  /** Runs against a fresh subject; throws when the contract is broken. */
  readonly run: (subject: Subject) => Promise<void>;
}

/** Compares by JSON, bytes as arrays. */
export function same(found: unknown, expected: unknown, what: string): void {
  const [a, b] = [show(found), show(expected)];
  if (a !== b) throw new KernelError("EFAULT", `${what}: expected ${b}, found ${a}`);
}

/** Bytes whose slices are no copies, as those of Node's buffers. */
export class SharingBytes extends Uint8Array {
  override slice(start?: number, end?: number): Uint8Array<ArrayBuffer> {
    return this.subarray(start, end);
  }
}

/** The call must reject with this code. */
export async function rejects(call: Promise<unknown>, code: Errno, what: string): Promise<void> {
  let found = "nothing thrown";
  try {
    await call;
  } catch (error) {
    if (isKernelError(error) && error.code === code) return;
    found = String(error);
  }
  throw new KernelError("EFAULT", `${what}: expected ${code}, found ${found}`);
}

function show(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (inner instanceof Uint8Array) return { bytes: Array.from(inner) };
    // Buffers turn into this shape before a replacer sees them.
    if (typeof inner === "object" && inner !== null && "type" in inner && inner.type === "Buffer" && "data" in inner)
      return { bytes: inner.data };
    return inner;
  });
}
