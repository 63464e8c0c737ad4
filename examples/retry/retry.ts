// Retry and failure: a service that is down at first, a step that is too slow once, a check that fails until
// somebody repairs the cause, and what is kept meanwhile.
//
//   ergos run examples/retry                        fails: the stock is short
//   ergos run examples/retry --input stock=5        completes

import { pipeline } from "ergos";

export interface OrderInput {
  readonly stock?: number;
}

export default pipeline<OrderInput>("order")
  .node("fetch", { retry: { attempts: 4, delayMs: 20, factor: 2 } }, async (_input, ctx) => {
    // The first two attempts find the service down.
    if (ctx.attempt < 3) throw new TypeError(`the order service is down (attempt ${ctx.attempt})`);
    return { item: "lease", quantity: 3 };
  })
  .node("price", { needs: ["fetch"], timeoutMs: 100, retry: { attempts: 2, delayMs: 10 } }, async ({ fetch }, ctx) => {
    // The first attempt hangs; its signal says when to give up.
    if (ctx.attempt === 1)
      await new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason)));
    return fetch.quantity * 7;
  })
  .node("reserve", { needs: ["fetch"] }, ({ fetch }, ctx) => {
    const stock = ctx.input.stock ?? 0;
    if (stock < fetch.quantity)
      throw new RangeError(
        `${fetch.quantity} wanted, ${stock} in stock; run again with --input stock=${fetch.quantity}`,
      );
    return stock - fetch.quantity;
  })
  .node("gift", { needs: ["price"], when: ({ price }) => price > 1000 }, () => "a present")
  .node(
    "confirm",
    { needs: ["fetch", "price", "reserve", "gift"], allowSkipped: true },
    ({ fetch, price, reserve, gift }) => ({
      // With allowSkipped each of them may be missing.
      text: `${fetch?.quantity ?? 0} × ${fetch?.item ?? "nothing"} for ${price ?? 0}`,
      left: reserve ?? 0,
      gift: gift ?? "none",
    }),
  )
  .output("confirm");
