// Measuring on a noisy machine: alternate what is compared, take medians, report ratios of the same run.

export interface Result {
  readonly name: string;
  readonly unit: string;
  readonly median: number;
  readonly p99: number;
  /** Median of the floor measured in the same run, in the same unit. */
  readonly floor?: number;
  readonly peer?: { readonly name: string; readonly median: number };
  /** Median over the floor's, or over the peer's where there is no floor. */
  readonly ratio?: number;
  /** What the ratio (or the median, where there is none) must not exceed. */
  readonly target?: number;
}

export interface Bench {
  readonly name: string;
  run(): Promise<readonly Result[]>;
}

type Sample = () => Promise<number> | number;

const sorted = (samples: readonly number[]): readonly number[] => samples.toSorted((a, b) => a - b);
const median = (samples: readonly number[]): number => sorted(samples)[samples.length >> 1] ?? Number.NaN;
const percentile = (samples: readonly number[], part: number): number =>
  sorted(samples)[Math.min(samples.length - 1, Math.floor(samples.length * part))] ?? Number.NaN;

/** Takes turns between the measured things; each sample is in the unit of the result. */
export async function alternate(
  rounds: number,
  samples: Readonly<Record<string, Sample>>,
): Promise<Readonly<Record<string, readonly number[]>>> {
  const out: Record<string, number[]> = Object.fromEntries(Object.keys(samples).map((name) => [name, []]));
  for (const sample of Object.values(samples)) await sample();
  for (let round = 0; round < rounds; round++) {
    const names = Object.keys(samples);
    for (const name of round % 2 === 0 ? names : names.toReversed())
      out[name]?.push((await samples[name]?.()) ?? Number.NaN);
  }
  return out;
}

export function toResult(
  name: string,
  unit: string,
  samples: readonly number[],
  more: {
    readonly floor?: readonly number[];
    readonly target?: number;
    readonly peer?: { readonly name: string; readonly samples: readonly number[] };
  } = {},
): Result {
  const mid = median(samples);
  const floor = more.floor === undefined ? undefined : median(more.floor);
  const peer = more.peer === undefined ? undefined : { name: more.peer.name, median: median(more.peer.samples) };
  const base = floor ?? peer?.median;
  return {
    name,
    unit,
    median: mid,
    p99: percentile(samples, 0.99),
    ...(floor === undefined ? {} : { floor }),
    ...(peer === undefined ? {} : { peer }),
    ...(base === undefined ? {} : { ratio: mid / base }),
    ...(more.target === undefined ? {} : { target: more.target }),
  };
}

/** Microseconds that `work` takes per one of its `count` parts. */
export async function microsecondsPer(count: number, work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return ((performance.now() - started) * 1000) / count;
}
