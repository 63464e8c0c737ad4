// Memory that is nobody else's.

/** A copy of its own. `slice` is none of some kinds of bytes, as Node's buffers: they share their memory with it. */
export const copyBytes = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes);
