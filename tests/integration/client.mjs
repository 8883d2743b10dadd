// The same conversation for Node's `ws` and for a browser: `converse(WebSocket, url, since)`.
// Nothing in here but `new WebSocket(url)`, `send`, `close` and events; returns what was seen.
globalThis.converse = async (WebSocket, url) => {
  const open = () =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      const queue = [];
      const waiting = [];
      const client = { socket, protocol: null };
      client.closed = new Promise((done) => {
        socket.onclose = (event) => {
          done({ code: event.code, clean: event.wasClean });
          for (const waiter of waiting.splice(0)) waiter(null);
        };
      });
      client.next = () => (queue.length ? Promise.resolve(queue.shift()) : new Promise((take) => waiting.push(take)));
      client.ask = async (request) => {
        socket.send(JSON.stringify(request));
        for (;;) {
          const message = await client.next();
          if (message === null || message.id === request.id) return message;
          client.skipped.push(message);
        }
      };
      client.skipped = [];
      socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (waiting.length) waiting.shift()(message);
        else queue.push(message);
      };
      socket.onerror = () => reject(new Error("no connection"));
      socket.onopen = () => resolve(client);
    });
  const until = async (client, op) => {
    const seen = [];
    for (;;) {
      const message = await client.next();
      if (message === null) throw new Error("closed while waiting for " + op);
      seen.push(message);
      if (message.op === op) return seen;
    }
  };
  const told = {};

  let client = await open();
  told.connected = await client.ask({ op: "connect", id: 1, client: "foreign/1" });
  told.retain = await client.ask({ op: "publish", id: 2, topic: "kept/a", data: "täglich 😀", retain: true });
  told.second = await client.ask({ op: "publish", id: 3, topic: "kept/b", data: { n: 2 } });
  told.third = await client.ask({ op: "publish", id: 4, topic: "kept/b", data: [3] });
  told.subscribed = await client.ask({ op: "subscribe", id: 5, filter: "kept/+", last: 2 });
  told.replay = await until(client, "live");
  client.socket.send(JSON.stringify({ op: "publish", topic: "kept/c", data: "live" }));
  told.live = (await until(client, "message")).at(-1);
  told.history = await client.ask({ op: "history", id: 6, filter: "kept/#", limit: 3 });
  told.error = await client.ask({ op: "publish", id: 7, topic: "kept/+", data: 1 });
  client.socket.close(1000);
  told.closed = await client.closed;

  // Missed while away, and then resumed without a gap.
  const position = { epoch: told.subscribed.epoch, seq: told.live.seq };
  const other = await open();
  await other.ask({ op: "connect", id: 1 });
  for (let n = 2; n <= 20; n++) await other.ask({ op: "publish", id: n, topic: "kept/" + n, data: n });
  client = await open();
  await client.ask({ op: "connect", id: 1 });
  told.resumed = await client.ask({ op: "subscribe", id: 2, filter: "kept/#", since: position });
  told.missed = await until(client, "live");
  told.unsubscribed = await client.ask({ op: "unsubscribe", id: 3, sub: 2 });
  await other.ask({ op: "publish", id: 21, topic: "kept/x", data: "unheard" });
  told.pong = await client.ask({ op: "ping", id: 4 });
  told.skipped = client.skipped;

  // A planned stop: the test begins it when it sees this message.
  await client.ask({ op: "publish", id: 5, topic: "foreign/done", data: true });
  told.drain = (await until(client, "drain")).at(-1);
  told.refused = await client.ask({ op: "publish", id: 6, topic: "kept/a", data: 1 });
  told.end = await client.closed;
  return told;
};
