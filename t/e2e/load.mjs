// Loads an npm package from the folder that QO_NODE_MODULES names, else from the one beside this file.
// A plain `import 'x'` would look only beside the source, which may be read-only in an out-of-tree build.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const modules = process.env.QO_NODE_MODULES || join(here, 'node_modules');
const require = createRequire(join(modules, 'resolve-from-here.js'));

export async function load(name) {
  const module = await import(pathToFileURL(require.resolve(name)).href);
  return module.default;
}

// Listens on loopback only; port 0 lets the system choose. Resolves to the port in use.
export function listen(server, port = 0) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server.address().port));
  });
}

export function escapeHtml(text) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return String(text).replace(/[&<>"']/g, (char) => entities[char]);
}
