// Waiting for a stream that is written to faster than it is read from.

import type { Writable } from "node:stream";

/**
 * What settles when a stream has taken what was written to it, or is closed; one wait for all who ask meanwhile.
 * @param waitingMax bytes that may wait without anybody waiting for them; as the stream says itself, unless given
 */
export function drainOf(stream: Writable, waitingMax?: number): () => Promise<void> {
  let draining: Promise<void> | undefined;
  const isFull = (): boolean =>
    !stream.destroyed && (waitingMax === undefined ? stream.writableNeedDrain : stream.writableLength > waitingMax);
  return () => {
    if (!isFull()) return Promise.resolve();
    return (draining ??= new Promise((resolve) => {
      const over = (): void => {
        stream.off("drain", over).off("close", over);
        draining = undefined;
        resolve();
      };
      stream.on("drain", over).on("close", over);
    }));
  };
}
