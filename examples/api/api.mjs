// Says that something was deployed, and shows p95 and mean of each host over the last day as a table.
const url = process.env.LOADLENS_URL ?? "http://localhost:8888";

async function call(path, options = {}) {
  const answer = await fetch(`${url}${path}`, options);
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail); // application/problem+json
  return document;
}

const said = { text: "deploy 1.4", tags: ["deploy"] };
const headers = { "Content-Type": "application/json" };
console.log(await call("/api/v1/annotations", { method: "POST", headers, body: JSON.stringify(said) }));

const question = new URLSearchParams({ metric: "cpuLoadAvg", stat: "p95,mean", by: "user", resample_rate: "all" });
const table = await call(`/api/v1/query?${question}`);
console.table(table.series.map(({ group, stat, values: [value] }) => ({ group, stat, value })));
