export const first = (x: unknown): unknown => x,
  second = first;
export const größe = first;
