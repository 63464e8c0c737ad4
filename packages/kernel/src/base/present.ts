// Objects without the fields that are undefined.

/** Fields that may be undefined are optional in it. */
export type Present<T> = { [Key in keyof T as undefined extends T[Key] ? never : Key]: T[Key] } & {
  [Key in keyof T as undefined extends T[Key] ? Key : never]?: Exclude<T[Key], undefined>;
};

/** The same fields in the same order, without those that are undefined. */
export function present<T extends object>(fields: T): Present<T> {
  const left: Partial<T> = {};
  for (const name of Object.keys(fields) as (keyof T)[]) if (fields[name] !== undefined) left[name] = fields[name];
  // Exactly what the type says is left out.
  return left as unknown as Present<T>;
}
