// Where large content is cut: by what it says, not by where it stands, so that what is moved by an insertion is known again.
//
// A gear hash over the last 32 bytes: each byte shifts it by one bit and adds a number of its own. A cut is where the
// upper bits are zero; chunks are between MIN and MAX long, MIN + 512 KiB on average.

const MIN = 512 * 1024;
const MAX = 4 * 1024 * 1024;
/** 19 bits: one cut in 512 KiB. */
const MASK = 0xff_ff_e0_00;

/** A number for each byte, the same for ever: stored content is cut by them. */
function gearOf(): Uint32Array {
  const gear = new Uint32Array(256);
  // Xorshift of 32 bits by Marsaglia, from a seed of ours.
  let state = 0x9e_37_79_b9;
  for (let at = 0; at < gear.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    gear[at] = state;
  }
  return gear;
}

const GEAR = gearOf();

/** Lengths of the chunks of some content, in their order. */
export function chunkLengths(bytes: Uint8Array): readonly number[] {
  const lengths: number[] = [];
  for (let start = 0; start < bytes.length;) {
    const length = cutOf(bytes, start);
    lengths.push(length);
    start += length;
  }
  return lengths;
}

function cutOf(bytes: Uint8Array, start: number): number {
  const end = Math.min(bytes.length, start + MAX);
  let hash = 0;
  // The hash knows the last 32 bytes: nothing before them matters.
  for (let at = start + MIN - 32; at < end; at++) {
    hash = ((hash << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0;
    if ((hash & MASK) === 0 && at >= start + MIN) return at + 1 - start;
  }
  return end - start;
}
