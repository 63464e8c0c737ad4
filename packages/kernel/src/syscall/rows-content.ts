// Rows about content by its id. An id is no right: these have rights of their own, for all content of the zone.

import { KernelError } from "../base/errno.ts";
import { type ContentId, parseContentId } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { args, bytes, integer, row, text } from "./row.ts";

export interface ById {
  readonly id: string;
}

const onContent = (): { readonly resource: string } => ({ resource: "/sys/content" });

/** @throws {EINVAL} it is no content id */
function idOf({ id }: ById): ContentId {
  const parsed = parseContentId(id);
  if (parsed !== undefined) return parsed;
  throw new KernelError("EINVAL", `a content id is sha256- and 64 hexadecimal digits, found ${JSON.stringify(id)}`);
}

const absent = (id: string): KernelError =>
  new KernelError("ENOENT", `the zone has no content ${id}; what nothing names is collected`);

export const CONTENT_ROWS = {
  writeContent: row<{ readonly bytes: Uint8Array }, Promise<ContentId>>({
    right: "content.write",
    kind: "mutation",
    summary: "stores content and answers its id; it is collected some time later unless something names it",
    schema: args({ bytes }, ["bytes"]),
    target: onContent,
    spends: ({ bytes: { length } }) => ({ bytesWritten: length }),
    audited: ({ bytes: { length } }) => ({ bytes: length }),
    handle: (host, _caller, a) => {
      if (a.bytes.length > LIMITS.ioBytesMax)
        throw new KernelError("E2BIG", `content has at most ${LIMITS.ioBytesMax} bytes, found ${a.bytes.length}`);
      return host.objects.put(a.bytes);
    },
  }),
  readContent: row<ById & { readonly offset?: number; readonly length?: number }, Promise<Uint8Array>>({
    right: "content.read",
    kind: "query",
    isLarge: true,
    summary: "content by its id, or a range of it; a whole read is held against the id",
    schema: args({ id: text, offset: integer, length: integer }, ["id"]),
    target: onContent,
    handle: async (host, _caller, { offset, length, ...a }) => {
      const id = idOf(a);
      const size = await host.objects.size(id);
      if (size === undefined) throw absent(a.id);
      const wanted = Math.min(length ?? size, Math.max(0, size - (offset ?? 0)));
      if (wanted > LIMITS.ioBytesMax)
        throw new KernelError("E2BIG", `a read has at most ${LIMITS.ioBytesMax} bytes; read a range of the ${size}`);
      if (offset === undefined && length === undefined) return host.objects.get(id);
      return host.objects.get(id, { offset: offset ?? 0, length: wanted });
    },
  }),
  statContent: row<ById, Promise<{ readonly id: ContentId; readonly size: number }>>({
    right: "content.read",
    kind: "query",
    summary: "size of content by its id",
    schema: args({ id: text }, ["id"]),
    target: onContent,
    handle: async (host, _caller, a) => {
      const id = idOf(a);
      const size = await host.objects.size(id);
      if (size === undefined) throw absent(a.id);
      return { id, size };
    },
  }),
} as const;
