// Frames: `u32 frame length | u32 JSON length | JSON | raw bytes`, big-endian, lengths in bytes.
// The frame length counts everything behind itself. Raw bytes belong to the message's one byte string.

import { KernelError } from "@ergos/kernel";

/** Bytes that one frame may carry behind its length; a larger one is a protocol error. */
export const FRAME_BYTES_MAX: number = 288 * 1024 * 1024;

export interface Frame {
  readonly message: unknown;
  readonly bytes: Uint8Array | undefined;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * The parts of a frame, to be written one after the other.
 * @throws {E2BIG} it would be larger than a frame may be
 */
export function encodeFrame(message: unknown, bytes?: Uint8Array): readonly Uint8Array[] {
  const json = encoder.encode(JSON.stringify(message));
  const length = 4 + json.length + (bytes?.length ?? 0);
  if (length > FRAME_BYTES_MAX)
    throw new KernelError(
      "E2BIG",
      `a call or an answer of ${length} bytes does not fit the connection, which takes ${FRAME_BYTES_MAX}; read and write in parts`,
    );
  const head = new Uint8Array(8 + json.length);
  const view = new DataView(head.buffer);
  view.setUint32(0, length);
  view.setUint32(4, json.length);
  head.set(json, 8);
  return bytes === undefined || bytes.length === 0 ? [head] : [head, bytes];
}

/** Cuts a stream of chunks into frames. */
export class FrameReader {
  #chunks: Uint8Array[] = [];
  #size = 0;

  /**
   * Takes a chunk and returns the frames that are complete now.
   * @throws {EPROTO} the stream is no sequence of frames; nothing more can be read from it
   */
  push(chunk: Uint8Array): readonly Frame[] {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    const frames: Frame[] = [];
    while (this.#size >= 4) {
      const length = viewOf(this.#peek(4)).getUint32(0);
      if (length < 4 || length > FRAME_BYTES_MAX)
        throw protocolError(`a frame of ${length} bytes; at most ${FRAME_BYTES_MAX} are allowed`);
      if (this.#size < 4 + length) break;
      this.#take(4);
      frames.push(decodeBody(this.#take(length)));
    }
    return frames;
  }

  #peek(count: number): Uint8Array {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= count) return first;
    const joined = join(this.#chunks, this.#size);
    this.#chunks = [joined];
    return joined;
  }

  #take(count: number): Uint8Array {
    const all = this.#peek(count);
    this.#size -= count;
    if (all.length === count) this.#chunks.shift();
    else this.#chunks[0] = all.subarray(count);
    return all.subarray(0, count);
  }
}

function decodeBody(body: Uint8Array): Frame {
  const jsonLength = viewOf(body).getUint32(0);
  if (jsonLength > body.length - 4) throw protocolError("a frame's JSON is longer than the frame");
  try {
    const message = JSON.parse(decoder.decode(body.subarray(4, 4 + jsonLength))) as unknown;
    return { message, bytes: body.length > 4 + jsonLength ? body.slice(4 + jsonLength) : undefined };
  } catch (error) {
    throw protocolError("a frame holds no JSON", error);
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function join(chunks: readonly Uint8Array[], size: number): Uint8Array {
  const out = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

export const protocolError = (why: string, cause?: unknown): KernelError =>
  new KernelError("EPROTO", `the peer does not speak the ErgOS wire: ${why}`, cause === undefined ? {} : { cause });
