export const first = (x: unknown): unknown => x,
  second = (x: unknown): unknown => [x];
export const größe = (x: unknown): unknown => ({ x });
