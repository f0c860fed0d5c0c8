// The application behind the module: answers every request with a page that shows what arrived.
//   PORT (optional) : port on 127.0.0.1; prints `ready {"port":N}` when it listens.
import { createServer } from 'node:http';
import { escapeHtml, listen } from './load.mjs';

function page(seen) {
  return `<!doctype html><meta charset="utf-8"><title>Backend</title>
<h1>Backend</h1>
<pre id="seen">${escapeHtml(JSON.stringify(seen, null, 1))}</pre>
<form method="post" action="/qonto/logout"><button id="logout">Log out</button></form>
`;
}

const server = createServer((request, response) => {
  const seen = { method: request.method, url: request.url, headers: request.headers };
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  response.end(page(seen));
});

// httpd keeps its connections to us open; closing an idle one just as httpd reuses it would be a 502 of our own making.
server.keepAliveTimeout = 600_000;

const port = await listen(server, Number(process.env.PORT || 0));
console.log(`ready ${JSON.stringify({ port })}`);
