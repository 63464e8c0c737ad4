// The header `If` of RFC 4918, 10.4: which locks a client knows of, and what must hold.

interface Condition {
  readonly isNot: boolean;
  readonly token?: string;
  readonly etag?: string;
}

/** Conditions that must hold together, for a resource, or for that of the request. */
export interface ConditionList {
  readonly resource?: string;
  readonly conditions: readonly Condition[];
}

/** @returns the lists, of which one must hold; nothing if the header is none */
export function parseIf(header: string): readonly ConditionList[] | undefined {
  const lists: ConditionList[] = [];
  let rest = header.trim();
  let resource: string | undefined;
  while (rest !== "") {
    const tag = /^<([^>]+)>\s*/.exec(rest);
    if (tag !== null) {
      resource = tag[1];
      rest = rest.slice(tag[0].length);
    }
    const list = /^\(((?:<[^>]*>|\[(?:W\/)?"[^"]*"\]|[^)<[])*)\)\s*/.exec(rest);
    if (list === null) return undefined;
    const conditions = parseConditions(list[1] ?? "");
    if (conditions === undefined) return undefined;
    lists.push({ ...(resource === undefined ? {} : { resource }), conditions });
    rest = rest.slice(list[0].length);
  }
  return lists.length === 0 ? undefined : lists;
}

function parseConditions(text: string): readonly Condition[] | undefined {
  const conditions: Condition[] = [];
  let rest = text.trim();
  while (rest !== "") {
    const found = /^(Not\s+)?(?:<([^>]+)>|\[((?:W\/)?"[^"]*")\])\s*/i.exec(rest);
    if (found === null) return undefined;
    const [whole, not, token, etag] = found;
    conditions.push({
      isNot: not !== undefined,
      ...(token === undefined ? {} : { token }),
      ...(etag === undefined ? {} : { etag }),
    });
    rest = rest.slice(whole.length);
  }
  return conditions.length === 0 ? undefined : conditions;
}
