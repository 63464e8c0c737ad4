// The XML of WebDAV: bodies of requests read, answers written.

import { DOMParser, type Element, XMLSerializer } from "@xmldom/xmldom";

export const DAV = "DAV:";
const ELEMENT = 1;

/** A name with its namespace, which may be empty. */
export interface PropName {
  readonly ns: string;
  readonly name: string;
}

/** The root of a body, or nothing where there is none. */
export function parseXml(text: string): Element | undefined {
  if (text.trim() === "") return undefined;
  if (/<!DOCTYPE|<!ENTITY/i.test(text)) throw new TypeError("documents with types of their own are not read");
  const complain = (_level: string, message: string): never => {
    throw new TypeError(message);
  };
  const { documentElement } = new DOMParser({ onError: complain }).parseFromString(text, "text/xml");
  if (documentElement === null) throw new TypeError("the document is empty");
  assertNamespaces(documentElement);
  return documentElement;
}

/** A prefix that stands for nothing is no namespace. */
function assertNamespaces(element: Element): void {
  for (let at = 0; at < element.attributes.length; at++) {
    const attribute = element.attributes.item(at);
    if (attribute?.name.startsWith("xmlns:") === true && attribute.value === "")
      throw new TypeError(`the prefix of ${attribute.name} stands for nothing`);
  }
  for (const child of childrenOf(element)) assertNamespaces(child);
}

export function childrenOf(element: Element): readonly Element[] {
  const children: Element[] = [];
  for (let node = element.firstChild; node !== null; node = node.nextSibling)
    if (node.nodeType === ELEMENT) children.push(node as Element);
  return children;
}

export const nameOf = ({ namespaceURI, localName, nodeName }: Element): PropName => ({
  ns: namespaceURI ?? "",
  name: localName ?? nodeName,
});

export const isDav = (element: Element, name: string): boolean =>
  element.namespaceURI === DAV && element.localName === name;

export const childNamed = (element: Element, name: string): Element | undefined =>
  childrenOf(element).find((child) => isDav(child, name));

/** What stands inside of an element, as XML. */
export function innerXml(element: Element): string {
  const serializer = new XMLSerializer();
  let text = "";
  for (let node = element.firstChild; node !== null; node = node.nextSibling)
    text += serializer.serializeToString(node);
  return text;
}

/** XML has no words for some characters. */
const sayable = (text: string): string =>
  text.toWellFormed().replace(/[\p{Cc}\ufffe\uffff]/gu, (found) => (/[\t\n\r]/.test(found) ? found : "\ufffd"));

export const escapeXml = (text: string): string =>
  sayable(text).replace(
    /[&<>"]/g,
    (found) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[found] ?? found,
  );

/** An element of any namespace with content that is XML already. */
export function element({ ns, name }: PropName, content = ""): string {
  if (ns === DAV) return content === "" ? `<D:${name}/>` : `<D:${name}>${content}</D:${name}>`;
  const open = ns === "" ? name : `X:${name} xmlns:X="${escapeXml(ns)}"`;
  const close = ns === "" ? name : `X:${name}`;
  return content === "" ? `<${open}/>` : `<${open}>${content}</${close}>`;
}

/** Content that is XML if it is well-formed by itself, and text otherwise. */
export function asContent(text: string): string {
  try {
    const said = sayable(text);
    parseXml(`<x>${said}</x>`);
    return said;
  } catch {
    return escapeXml(text);
  }
}

export const dav = (name: string, content = ""): string => element({ ns: DAV, name }, content);

export const document = (name: string, content: string): string =>
  `<?xml version="1.0" encoding="utf-8"?>\n<D:${name} xmlns:D="DAV:">${content}</D:${name}>\n`;
