// The check that a text of `feedback.yaml` must pass.

export function mustNamePrice({ text }: { readonly text: string }): { readonly text: string } {
  if (!/\d+\s*(euros?|€|EUR)/i.test(text)) throw new TypeError("the text does not name the price");
  return { text };
}
