// A shop's program over the generated types and openapi-fetch: from a store that does not exist to an item's timeline.
// Run by its test with what it needs to know as JSON on standard input; prints what it saw. Watches the job by its stream.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./api.ts";

type Schemas = components["schemas"];
type Known = Record<
  "address" | "platformKey" | "accessToken" | "businessId" | "catalogId" | "form" | "raw",
  string
>;
type Shop = Client<paths>;
type Answered<T> = { data?: T | undefined; error?: Schemas["Error"] | undefined; response: Response };

const PATIENCE_MS = 60_000;

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(`not so: ${JSON.stringify(what)}`);
}

/** The answer of a call that must succeed. */
function given<T>({ data, error, response }: Answered<T>): T {
  if (data === undefined) throw new Error(`refused: ${response.status} ${JSON.stringify(error)}`);
  return data;
}

/** What is known of a call that must be refused. */
function refusal({ error, response }: Answered<unknown>): { status: number; code: string; fields: string[] } {
  if (error === undefined) throw new Error(`not refused: ${response.status}`);
  check(error.statusCode === response.status, error);
  return { status: error.statusCode, code: error.errorCode, fields: error.details.map((one) => one.field) };
}

/** What a look finds once it finds anything. */
async function until<T>(look: () => Promise<T | undefined>, what: string): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const found = await look();
    if (found !== undefined) return found;
    await sleep(200);
  }
  throw new Error(`waited in vain for ${what}`);
}

function connect(address: string, key: string): Shop {
  return createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${key}` } });
}

/** A new store with a key of its own, connected to a catalog, not sending yet. */
async function openShop(known: Known): Promise<[string, Shop]> {
  const platform = connect(known.address, known.platformKey);
  const store = given(
    await platform.POST("/platform/stores", { body: { name: "TypeScript", currency: "EUR" } }),
  ).data;
  const key = given(
    await platform.POST("/platform/stores/{storeId}/api-keys", {
      params: { path: { storeId: store.storeId }, header: { "Idempotency-Key": "first" } },
      body: { permissions: ["metaCatalog:manage", "catalog:write"] },
    }),
  ).data;
  const shop = connect(known.address, key.apiKey);
  const settings = given(
    await shop.PATCH("/admin/meta/settings", {
      body: { storefrontBaseUrl: "https://shop.example", defaultBrand: "Acme", batchSize: 50 },
    }),
  ).data;
  check(settings.defaultBrand === "Acme" && settings.batchSize === 50 && !settings.syncEnabled, settings);
  given(await shop.POST("/admin/meta/token", { body: { accessToken: known.accessToken } }));
  const selected = given(
    await shop.POST("/admin/meta/select-catalog", {
      body: {
        businessId: known.businessId,
        businessName: "Demo",
        catalogId: known.catalogId,
        catalogName: "TypeScript",
      },
    }),
  ).data;
  check(selected.catalogId === known.catalogId, selected);
  if (selected.jobId !== null) await watched(shop, selected.jobId);
  return [store.storeId, shop];
}

/** What became of a started import. */
async function imported(shop: Shop, started: Schemas["StartedImport"]): Promise<Schemas["ImportCounts"]> {
  const path = { importId: started.importId };
  return await until(async () => {
    const { data } = given(await shop.GET("/catalog/imports/{importId}", { params: { path } }));
    return ["success", "partial", "error"].includes(data.status) ? data.counts : undefined;
  }, "the import");
}

/** One file in a form and one as the whole body. */
async function importFiles(shop: Shop, known: Known) {
  const query = { source: "feed", dryRun: false };
  const inForm = given(
    await shop.POST("/catalog/imports", {
      params: { query },
      body: { file: readFileSync(known.form, "utf8") },
      bodySerializer(body) {
        const form = new FormData();
        check(typeof body === "object" && "file" in body, body);
        form.append("file", new Blob([body.file]), "goods.ndjson");
        return form;
      },
    }),
  ).data;
  const form = await imported(shop, inForm);
  const whole = given(
    await shop.POST("/catalog/imports", {
      params: { query },
      headers: { "Content-Type": "application/octet-stream" },
      body: readFileSync(known.raw, "utf8"),
      bodySerializer: (body) => body,
    }),
  ).data;
  const raw = await imported(shop, whole);
  const report = given(
    await shop.GET("/catalog/imports/{importId}/report", {
      params: { path: { importId: inForm.importId } },
      parseAs: "text",
    }),
  );
  return { form, raw, report: report.trimEnd().split("\r\n") };
}

/** A patch of a private product and stock of a variant, as events; and what became of the product. */
async function sendNews(shop: Shop) {
  const sent = given(
    await shop.POST("/catalog/events", {
      body: [
        {
          specversion: "1.0",
          id: "1",
          source: "/drive",
          type: "vendor.product.basics.updated",
          data: { productId: "secret", title: "Renamed" },
        },
        {
          specversion: "1.0",
          id: "2",
          source: "/drive",
          type: "inventory.stock.adjusted",
          data: { variantId: "mug-1", quantityOnHand: 7, reservedQuantity: 2 },
        },
      ],
    }),
  ).data;
  const path = { productId: "secret" };
  const product = given(await shop.GET("/catalog/products/{productId}", { params: { path } })).data;
  return {
    accepted: sent.accepted,
    product: [product.title, product.status, product.visibility, product.source],
  };
}

/** The events of a job's stream, as they come. */
async function* events(shop: Shop, jobId: string): AsyncGenerator<{ event: string; job: Schemas["SyncJob"] }> {
  const stream = given(
    await shop.GET("/admin/meta/sync-jobs/{jobId}/stream", {
      params: { path: { jobId } },
      parseAs: "stream",
    }),
  );
  check(stream !== null, "a stream");
  let held = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (held + piece).split("\n\n");
    held = parts.pop() ?? "";
    for (const part of parts) {
      const lines = part.split("\n").map((line) => line.split(/: (.*)/s));
      const field = (name: string) => lines.find(([first]) => first === name)?.[1];
      const [event, data] = [field("event"), field("data")];
      if (event !== undefined && data !== undefined) yield { event, job: JSON.parse(data) };
    }
  }
}

/** A job at its end, its counts checked at every event, and the last event's name. */
async function watched(shop: Shop, jobId: string): Promise<{ event: string; job: Schemas["SyncJob"] }> {
  for await (const { event, job } of events(shop, jobId)) {
    const { total, enqueued, submitted, unchanged, synced, failed, skipped, cancelled } = job.counts;
    const [waiting, ended] = [enqueued + submitted, unchanged + synced + failed + skipped + cancelled];
    check(waiting + ended <= total, job.counts);
    if (event === "done") {
      check(waiting === 0 && ended === total, job.counts);
      return { event, job };
    }
  }
  throw new Error("the stream ended before the job");
}

/** Items in a status, page by page with the cursor. */
async function* items(shop: Shop, status: Schemas["SyncStatus"]): AsyncGenerator<Schemas["MetaItemSummary"]> {
  let cursor: string | null = null;
  do {
    const after: { cursor?: string } = cursor === null ? {} : { cursor };
    const page: Schemas["ItemPage"] = given(
      await shop.GET("/admin/meta/items", {
        params: { query: { status, sort: "variantId", limit: 4, ...after } },
      }),
    );
    yield* page.data;
    cursor = page.metadata.nextCursor;
  } while (cursor !== null);
}

async function listed<T>(found: AsyncGenerator<Schemas["MetaItemSummary"]>, show: (item: Schemas["MetaItemSummary"]) => T) {
  const shown: T[] = [];
  for await (const item of found) shown.push(show(item));
  return shown;
}

/** An item's timeline, newest first. */
async function timeline(shop: Shop, variantId: string): Promise<Schemas["TimelineEntry"][]> {
  const answer = await shop.GET("/admin/meta/items/{variantId}/timeline", { params: { path: { variantId } } });
  return given(answer).data;
}

/** Have an item sent once more, by the id that its address is written with. */
async function resyncFirst(shop: Shop, item: Schemas["MetaItemSummary"]) {
  const variantId = item.href.slice(item.href.lastIndexOf("/") + 1);
  const params = { path: { variantId } };
  const detail = given(await shop.GET("/admin/meta/items/{variantId}", { params })).data;
  check(detail.variant.id === item.variantId, detail.variant);
  const accepted = async () =>
    (await timeline(shop, variantId)).filter((one) => one.attempt?.outcome === "accepted");
  const before = (await accepted()).length;
  const sent = given(
    await shop.POST("/admin/meta/items/{variantId}/resync", { params, body: { force: true } }),
  ).data;
  check(sent.enqueued, sent);
  const newest = await until(async () => {
    const entries = await accepted();
    return entries.length > before ? entries[0] : undefined;
  }, "a second attempt");
  const kinds = new Set((await timeline(shop, variantId)).map((one) => one.kind));
  return {
    variantId: item.variantId,
    kinds: [...kinds].sort(),
    hash: newest.attempt?.payloadHash,
    message: newest.message,
  };
}

const known: Known = JSON.parse(readFileSync(0, "utf8"));
const [storeId, shop] = await openShop(known);
const imports = await importFiles(shop, known);
const news = await sendNews(shop);

// The job looks at everything while nothing is sent yet: no item has ended before it was counted.
const started = given(await shop.POST("/admin/meta/bootstrap")).data;
const read = async () =>
  given(await shop.GET("/admin/meta/sync-jobs/{jobId}", { params: { path: { jobId: started.jobId } } })).data;
await until(async () => ((await read()).stage === "syncing" ? true : undefined), "the job's look at all items");
given(await shop.PATCH("/admin/meta/settings", { body: { syncEnabled: true } }));
const { event, job } = await watched(shop, started.jobId);
const again = await read();
check(again.status === job.status && again.counts.synced === job.counts.synced, again);

const errors = given(await shop.GET("/admin/meta/errors")).data;
const whole = await listed(items(shop, "synced"), (item) => item);
const found = given(
  await shop.GET("/admin/meta/items", { params: { query: { search: "MUG", productId: "mug" } } }),
).data;
const first = whole[0];
check(first !== undefined, whole);
const stranger = connect(known.address, "nobody");
const seen = {
  storeId,
  imports,
  events: news,
  job: { id: job.id, status: job.status, counts: job.counts },
  stream: [`event: ${event}`],
  errors: errors.map((one) => [one.variantId, one.code, one.category, one.lastError, one.action]),
  synced: whole.map((item) => item.variantId),
  skipped: await listed(items(shop, "skipped"), (item) => [item.variantId, item.errorCode]),
  found: found.map((item) => item.variantId).sort(),
  timeline: await resyncFirst(shop, first),
  counts: given(await shop.GET("/admin/meta/status")).data.counts,
  refusals: [
    refusal(await shop.GET("/admin/meta/items/{variantId}", { params: { path: { variantId: "absent" } } })),
    refusal(await shop.PATCH("/admin/meta/settings", { body: { batchSize: 0 } })),
    refusal(await stranger.GET("/admin/meta/status")),
  ],
};
process.stdout.write(JSON.stringify(seen));
