// Pages of directories whose entries do not lie in the store in their order.

import type { DirEntry } from "../abi/file.ts";
import { encodeName } from "./inode.ts";

/** The first entries behind a name in the order of the keys, so that pages neither overlap nor leave gaps. */
export function pageOf(entries: Iterable<DirEntry>, afterName: string | undefined, limit: number): readonly DirEntry[] {
  const after = afterName === undefined ? undefined : encodeName(afterName);
  const page: { readonly entry: DirEntry; readonly key: string }[] = [];
  let last: string | undefined;
  const cut = (): void => {
    page.sort((a, b) => (a.key < b.key ? -1 : 1)).splice(limit);
    if (page.length === limit) last = page.at(-1)?.key;
  };
  // All are looked at for each page; only those that may be on it are sorted.
  for (const entry of entries) {
    const key = encodeName(entry.name);
    if ((after !== undefined && key <= after) || (last !== undefined && key >= last)) continue;
    if (page.push({ entry, key }) >= 2 * limit) cut();
  }
  cut();
  return page.map(({ entry }) => entry);
}
