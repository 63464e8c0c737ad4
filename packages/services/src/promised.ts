// Promises that programs may leave alone, and refusals that are rejections.

import { KernelError, describe } from "@ergos/kernel";

/** Whoever awaits several one after the other hears of the first that fails: the others are no stray failures then. */
export function heard<T>(promise: Promise<T>): Promise<T> {
  promise.catch(ignore);
  return promise;
}
const ignore = (): void => undefined;

/** A refusal is a rejection, whenever it is made; a promise stays the one it is. */
export function promised<T>(act: () => T | Promise<T>): Promise<T> {
  try {
    const value = act();
    return value instanceof Promise ? value : Promise.resolve(value);
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new KernelError("EFAILED", describe(error)));
  }
}
