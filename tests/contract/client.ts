// Drives the server at the URL and with the token that are its arguments, by the types that openapi-typescript generated.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

function assert(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

const client = createClient<paths>({
  baseUrl: process.argv[2],
  headers: { Authorization: `Bearer ${process.argv[3]}` },
});

for (let number = 0; number < 5; number++) {
  const body: components["schemas"]["NewItem"] = {
    id: `nut-${number}`,
    name: "Nut",
    quantity: number,
    unit_price: { amount: "0.05", currency: "EUR" },
    attributes: { colours: ["red", "blue"] },
  };
  const { data, response } = await client.POST("/inventory", { body });
  assert(response.status === 201 && data?.etag === response.headers.get("etag"), "created");
}

const id = "nut-1";
const { data: item } = await client.GET("/inventory/{id}", { params: { path: { id } } });
assert(item !== undefined, "the item is there");
const change = (quantity: number) =>
  client.PATCH("/inventory/{id}", {
    params: { path: { id }, header: { "If-Match": item.etag } },
    body: { quantity, unit_price: null },
  });
const { data: changed } = await change(7);
assert(changed?.quantity === 7 && changed.unit_price === undefined, "changed");
const { error: late } = await change(8);
assert(late?.status === 412 && late.type === "/problems/precondition-failed", "not changed again");

// The first create that a reader of the document writes: nothing but what must be there.
const { data: plain } = await client.POST("/inventory", { body: { id: "nut-9", name: "Nut" } });
assert(plain?.quantity === 0 && Object.keys(plain.attributes).length === 0, "created without more");
await client.DELETE("/inventory/{id}", { params: { path: { id: "nut-9" } } });

// One type for the reasons, wherever they are used.
const reason: components["schemas"]["Reason"] = "sold";
const movement = { params: { path: { id } }, body: { delta: -1, reason } };
const { data: moved } = await client.POST("/inventory/{id}/movements", movement);
assert(moved?.entry.reason === reason && moved.item?.quantity === 6, "moved");

const seen: string[] = [];
let cursor: string | undefined;
do {
  const query = cursor === undefined ? { limit: 2 } : { limit: 2, cursor };
  const { data: page } = await client.GET("/inventory", { params: { query } });
  assert(page !== undefined, "a page");
  seen.push(...page.items.map((item) => item.id));
  cursor = page.next_cursor;
} while (cursor !== undefined);
assert(seen.join() === "nut-0,nut-1,nut-2,nut-3,nut-4", seen.join());

for (const id of seen) {
  const { response } = await client.DELETE("/inventory/{id}", { params: { path: { id } } });
  assert(response.status === 204, "deleted");
}
