// A real browser (Chromium) in front of the real httpd, signing in at the foreign authorization server.
//   APP      origin of httpd,  e.g. http://127.0.0.1:8001
//   PROVIDER origin of provider.mjs as the browser sees it. It is http://localhost:N on purpose: another site than
//            127.0.0.1, so SameSite and Sec-Fetch-Site behave as they do between an application and Qonto.
//   CONTROL  origin of provider.mjs's control port
//   CHROMIUM the browser's binary
//   QO_SHOTS folder for screenshots (optional)
// Speaks to e2e.t in lines: prints `ok NAME`, `not ok NAME`, `# detail`; prints `do WORK` and then waits for a line on stdin.
// Exits 0 when every check passed.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { load } from './load.mjs';

const { APP, PROVIDER, CONTROL, CHROMIUM, QO_SHOTS } = process.env;
const CALLBACK = '/qonto/callback';
const PATIENCE_MS = 10_000;
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--no-proxy-server',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--host-resolver-rules=MAP * 127.0.0.1', // no name leaves this machine
];

// --- reporting ---

let failures = 0;

function report(passed, name, detail) {
  console.log(`${passed ? 'ok' : 'not ok'} ${name}`);
  if (passed) return;
  failures += 1;
  for (const line of String(detail).split('\n')) console.log(`# ${line}`);
}

const show = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
const ok = (value, name, detail = `got ${show(value)}`) => report(Boolean(value), name, detail);
const is = (got, want, name) => report(Object.is(got, want), name, `got  ${show(got)}\nwant ${show(want)}`);
const like = (got, pattern, name) => report(pattern.test(got ?? ''), name, `got  ${show(got)}\nwant ${pattern}`);

const orders = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Asks e2e.t for something only the parent of httpd can do.
async function ask(work) {
  console.log(`do ${work}`);
  const { value, done } = await orders.next();
  if (done || value !== 'done') throw new Error(`e2e.t could not ${work}`);
}

// --- the provider's side of the story ---

async function control(path, method = 'GET') {
  const answer = await fetch(CONTROL + path, { method });
  return answer.json();
}

const count = () => control('/_count');
const tokenFacts = (token) => control(`/_token?value=${encodeURIComponent(token)}`);

async function eventually(test, patienceMs = 3000) {
  for (const deadline = Date.now() + patienceMs; Date.now() < deadline;) {
    if (await test()) return true;
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  return false;
}

// --- a tab of the browser ---

let shots = 0;

class Tab {
  constructor(page) {
    this.page = page;
    this.response = null; // what the last navigation ended in
  }

  async go(pathOrUrl) {
    this.response = await this.page.goto(new URL(pathOrUrl, APP).href);
  }

  async reload() {
    this.response = await this.page.reload();
  }

  async click(selector) {
    const [response] = await Promise.all([this.page.waitForNavigation(), this.page.click(selector)]);
    this.response = response;
  }

  get url() { return this.page.url(); }

  get origin() { return new URL(this.url).origin; }

  get status() { return this.response.status(); }

  // Every address of the last navigation, redirects first.
  get trail() {
    const urls = [];
    for (let request = this.response.request(); request; request = request.redirectedFrom()) urls.unshift(request.url());
    return urls;
  }

  // The request as the backend printed it.
  async seen() {
    if (!await this.page.locator('#seen').count()) throw new Error(`${this.url} with ${this.status} is no page of the backend`);
    return JSON.parse(await this.page.textContent('#seen'));
  }

  async token() {
    const { authorization } = (await this.seen()).headers;
    const token = bearer(authorization);
    if (!token) throw new Error(`the backend got no token at ${this.url}: Authorization: ${authorization}`);
    return token;
  }

  async shot(name) {
    if (!QO_SHOTS) return;
    shots += 1;
    await this.page.screenshot({ path: join(QO_SHOTS, `${String(shots).padStart(2, '0')}-${name}.png`) });
  }
}

function bearer(header) {
  return /^Bearer (\S+)$/.exec(header ?? '')?.[1];
}

// Clicks through whatever the provider shows until the browser is back at the application.
async function settle(tab, { consent = 'allow' } = {}) {
  for (let step = 0; tab.origin === PROVIDER; step += 1) {
    if (step > 4) throw new Error(`still at the provider after ${step} clicks: ${tab.url}`);
    const login = await tab.page.locator('#login').count();
    if (login) await tab.page.fill('#user', 'alice');
    else if (!await tab.page.locator('#allow').count()) throw new Error(`the provider says: ${await tab.page.textContent('body')}`);
    await tab.click(login ? '#login' : `#${consent}`);
  }
}

async function signIn(visitor, path) {
  const tab = await visitor.open();
  await tab.go(path);
  await settle(tab);
  if (tab.url !== APP + path) throw new Error(`signing in for ${path} ended on ${tab.url} with ${tab.status}`);
  return tab;
}

// What the backend saw of each of these requests, sent at once by a script in the page.
async function fetchSeen(tab, paths, headers = {}) {
  return tab.page.evaluate(async ([urls, init]) => Promise.all(urls.map(async (url) => {
    const text = await (await fetch(url, init)).text();
    const page = new DOMParser().parseFromString(text, 'text/html');
    return JSON.parse(page.querySelector('#seen').textContent);
  })), [paths, { headers, cache: 'no-store' }]);
}

// A visitor is a browser profile of its own: no cookies, no cache.
class Visitor {
  constructor(context) { this.context = context; }

  async open() { return new Tab(await this.context.newPage()); }

  // Everything the application's host stored, or what the browser would send to one path.
  async cookies(path) {
    const host = new URL(APP).hostname;
    const all = await this.context.cookies(path ? APP + path : undefined);
    return all.filter((cookie) => cookie.domain.replace(/^\./, '') === host);
  }

  async setCookie(name, value) { await this.context.addCookies([{ name, value, url: APP }]); }
}

// --- scenarios; each starts with a visitor nobody knows ---

function checkAuthorizationRequest(url) {
  const query = new URL(url).searchParams;
  is(query.get('redirect_uri'), APP + CALLBACK, 'authorization request: redirect_uri');
  is(query.get('response_type'), 'code', 'authorization request: response_type');
  is(query.get('prompt'), 'consent', 'authorization request: QontoAuthorizeParam');
  is(query.get('code_challenge_method'), 'S256', 'authorization request: PKCE');
  like(query.get('state'), /^[A-Za-z0-9_-]{43,}$/, 'authorization request: state of 256 bits, url-safe');
  like(url, /[?&]scope=offline_access%20organization\.read(&|$)/, 'authorization request: scopes, space as %20');
}

function checkPendingCookies(cookies) {
  ok(cookies.length >= 1, 'an unfinished log-in is bound to the browser by a cookie');
  for (const cookie of cookies) {
    is(cookie.path, CALLBACK, `unfinished log-in: cookie ${cookie.name} goes to the callback only`);
    ok(cookie.httpOnly && cookie.sameSite === 'Lax', `unfinished log-in: cookie ${cookie.name} is HttpOnly and SameSite=Lax`, show(cookie));
  }
}

async function firstVisit(visitor) {
  await visitor.setCookie('theme', 'dark');
  const before = await count();
  const tab = await visitor.open();

  await tab.go('/books/a?x=1');
  is(tab.origin, PROVIDER, 'a stranger is sent to the provider');
  checkAuthorizationRequest(tab.trail.find((url) => url.startsWith(`${PROVIDER}/oauth2/auth?`)) ?? 'about:blank');
  checkPendingCookies((await visitor.cookies()).filter((cookie) => cookie.name !== 'theme'));
  await tab.shot('log-in');

  await settle(tab);
  await tab.shot('signed-in');
  is(tab.url, `${APP}/books/a?x=1`, 'after consent the visitor lands on the page asked for');
  is(tab.status, 200, 'and the page is served');

  const { url, headers } = await tab.seen();
  like(url, /\/a\?x=1$/, 'the backend got path and query');
  const facts = await tokenFacts(bearer(headers.authorization) ?? '');
  ok(facts.active, 'the backend got an access token that the provider accepts', `Authorization: ${headers.authorization}\n${show(facts)}`);
  like(headers['x-qonto-scope'], /\borganization\.read\b/, 'the backend got X-Qonto-Scope');
  ok(headers['x-qonto-expires'], 'the backend got X-Qonto-Expires');
  is(headers.cookie, 'theme=dark', "the backend got the application's cookie and none of ours");

  const after = await count();
  is(after.token - before.token, 1, 'one token request');
  is(after.tokenErrors.join('\n'), before.tokenErrors.join('\n'), 'which the provider accepted');
}

async function staysSignedIn(visitor) {
  const tab = await signIn(visitor, '/books/stay');
  const callback = tab.trail.find((url) => url.startsWith(APP + CALLBACK));
  const token = await tab.token();
  const before = await count();

  for (let i = 0; i < 3; i += 1) await tab.reload();
  is(tab.url, `${APP}/books/stay`, 'three reloads: still on the page');
  is(await tab.token(), token, 'three reloads: the same token');

  await tab.go(callback);
  is(`${tab.status} ${tab.origin}`, `200 ${APP}`, 'the callback address opened again ends on a page, not in a log-in');
  await tab.go('/books/stay');
  is(await tab.token(), token, 'and leaves the session alone');

  await tab.go('/open/page');
  const { headers } = await tab.seen();
  ok(!headers.authorization && !headers.cookie, 'an open location gets neither the token nor our cookie', show(headers));

  const after = await count();
  is(after.token, before.token, 'no further token request');
  is(after.authorize, before.authorize, 'no further authorization request');
}

async function browserCookies(visitor) {
  const tab = await visitor.open();
  const setCookies = [];
  tab.page.on('response', async (response) => {
    if (!response.url().startsWith(APP)) return;
    for (const { name, value } of await response.headersArray()) if (name.toLowerCase() === 'set-cookie') setCookies.push(value);
  });
  await tab.go('/books/cookies');
  await settle(tab);

  const sent = await visitor.cookies('/books/cookies');
  is(sent.length, 1, 'signed in, the browser sends one cookie');
  const [cookie] = sent;
  is(cookie?.name, 'qonto', 'session cookie: plain name on loopback http');
  is(cookie?.path, '/', 'session cookie: path');
  is(cookie?.httpOnly, true, 'session cookie: HttpOnly');
  is(cookie?.sameSite, 'Lax', 'session cookie: SameSite=Lax');
  is(cookie?.domain, new URL(APP).hostname, 'session cookie: this host only');
  ok(setCookies.length && !/;\s*domain=/i.test(setCookies.join('\n')), 'no Set-Cookie names a Domain', setCookies.join('\n'));
  is(await tab.page.evaluate(() => document.cookie), '', 'scripts in the page see no cookie');
}

async function tenTabs(visitor) {
  const before = await count();
  const tabs = await Promise.all(Array.from({ length: 10 }, () => visitor.open()));
  await Promise.all(tabs.map((tab, i) => tab.go(`/books/tab/${i}`)));
  is(tabs.filter((tab) => tab.origin === PROVIDER).length, 10, 'ten tabs at once: all at the provider');

  // One after the other: one user has one mouse, and this provider renews its own session at each step.
  for (const tab of tabs) {
    await tab.page.bringToFront(); // a tab in the background paints, and so takes clicks, very slowly
    await settle(tab);
  }
  const ends = tabs.map((tab) => `${tab.status} ${tab.url}`).join('\n');
  const wanted = tabs.map((tab, i) => `200 ${APP}/books/tab/${i}`).join('\n');
  is(ends, wanted, 'each tab ends on its own page');
  is((await count()).token - before.token, 1, 'ten tabs: one token request, the other nine found the session');
  is((await visitor.cookies('/books/')).length, 1, 'ten tabs leave one cookie for ordinary requests');

  const authorized = (await count()).authorize;
  await Promise.all(tabs.map((tab) => tab.reload()));
  is(tabs.filter((tab) => tab.status === 200 && tab.origin === APP).length, 10, 'ten tabs: the session works in all of them');
  is((await count()).authorize, authorized, 'ten tabs: nobody logs in again');
}

async function fetchWithoutSession(visitor) {
  const tab = await visitor.open();
  await tab.go('/open/page');
  const before = await count();
  const answer = await tab.page.evaluate(async () => {
    const { status, type, headers } = await fetch('/books/data', { redirect: 'manual' });
    return { status, type, cacheControl: headers.get('cache-control') };
  });
  is(answer.status, 401, 'fetch() without a session gets 401');
  is(answer.type, 'basic', 'and no redirect');
  like(answer.cacheControl, /no-store/, 'which no cache keeps');
  is((await visitor.cookies()).length, 0, 'and starts no log-in');
  is((await count()).authorize, before.authorize, 'nor asks the provider');

  const forged = { 'X-Qonto-User': 'forged-1', X_Qonto_Organization: 'forged-2', 'x-qonto.scope': 'forged-3' };
  const [seen] = await fetchSeen(tab, ['/open/headers'], forged);
  ok(!/forged/.test(show(seen)), 'forged X-Qonto-* headers do not reach the backend, in any spelling', show(seen));
}

async function accessRefused(visitor) {
  const tab = await visitor.open();
  await tab.go('/books/refused');
  const before = await count();
  await settle(tab, { consent: 'refuse' });
  await tab.shot('refused');
  is(tab.status, 403, 'access refused: status 403');
  is(tab.origin + new URL(tab.url).pathname, APP + CALLBACK, "access refused: the module's own page");
  const text = await tab.page.innerText('body');
  ok(text.trim().length > 40, 'access refused: the page says something', text);
  like(text, /QO\d{4}/, 'access refused: the page carries a reference for the log');
  ok(!/<b>access/.test(await tab.page.innerHTML('body')), "access refused: the provider's text is not taken as HTML");
  const after = await count();
  is(after.token, before.token, 'access refused: no token request');
  is(after.authorize, before.authorize, 'access refused: no loop');

  const wayOn = 'a[href], button, input[type=submit]';
  ok(await tab.page.locator(wayOn).first().isVisible(), 'access refused: the page offers a way on', text);
  await tab.click(`${wayOn} >> nth=0`);
  ok(tab.status < 400, 'the way on leads somewhere', `${tab.status} ${tab.url}`);
  await tab.go('/books/refused');
  is(tab.origin, PROVIDER, 'nobody was signed in');
}

async function logOut(visitor, newVisitor) {
  const tab = await signIn(visitor, '/books/logout');
  const token = await tab.token();
  const [session] = await visitor.cookies('/books/');
  const before = await count();

  await tab.click('#logout');
  await tab.shot('logged-out');
  is(tab.origin, APP, 'logged out: still at the application');
  ok(tab.status < 400, 'logged out: a page answers', `${tab.status} ${tab.url}`);
  ok(await eventually(async () => (await count()).revoked > before.revoked), 'logged out: the provider was asked to revoke');
  ok(await eventually(async () => !(await tokenFacts(token)).active), 'logged out: the access token is dead at the provider');
  is((await visitor.cookies('/books/')).length, 0, 'logged out: the session cookie is gone');

  await tab.go('/books/logout');
  is(tab.origin, PROVIDER, 'logged out: the page asks for a log-in again');

  const thief = await newVisitor();
  await thief.setCookie(session.name, session.value);
  const stolen = await thief.open();
  await stolen.go('/books/logout');
  is(stolen.origin, PROVIDER, 'logged out: the old cookie opens nothing');
}

async function survivesKill(visitor) {
  const tab = await signIn(visitor, '/books/crash');
  const token = await tab.token();
  const before = await count();
  await ask('kill-and-restart-httpd');
  await tab.reload();
  is(tab.url, `${APP}/books/crash`, 'after kill -9 and a new start: still signed in');
  is(await tab.token(), token, 'after kill -9 and a new start: the same token');
  const after = await count();
  is(after.token, before.token, 'after kill -9 and a new start: no token request');
}

// The provider rotates refresh tokens and, when one comes a second time, ends the whole grant.
async function staysLongerThanToken(visitor) {
  await control('/_life?seconds=6');
  const tab = await signIn(visitor, '/books/long');
  let token = await tab.token();
  const before = await count();
  for (let round = 1; round <= 2; round += 1) {
    const old = token;
    ok(await eventually(async () => !(await tokenFacts(old)).active, 10_000), `round ${round}: the access token has ended`);
    const tabs = await Promise.all(Array.from({ length: 6 }, () => visitor.open()));
    await Promise.all(tabs.map((other, i) => other.go(`/books/long/${round}/${i}`)));
    is(tabs.map((other) => `${other.status} ${other.origin}`).join(' '), Array(6).fill(`200 ${APP}`).join(' '),
      `round ${round}: six tabs at once are served`);
    const tokens = new Set(await Promise.all(tabs.map((other) => other.token())));
    is(tokens.size, 1, `round ${round}: all with one token`);
    [token] = tokens;
    ok(token !== old && (await tokenFacts(token)).active, `round ${round}: a new one, good at the provider`);
    await Promise.all(tabs.map((other) => other.page.close()));
  }
  const after = await count();
  is(after.refresh - before.refresh, 2, 'two rounds: two refreshes');
  is(after.token - before.token, 2, 'and no other token request');
  is(after.authorize, before.authorize, 'and nobody logged in again');
  is(after.tokenErrors.join('\n'), before.tokenErrors.join('\n'), 'the provider refused nothing');
  await control('/_life?seconds=3600');
}

async function connect(visitor) {
  const organization = '018f71db-c635-78b5-b90a-ea05de98c2bf';
  const tab = await visitor.open();
  await tab.go(`/qonto/connect?return=/books/b&organization_id=${organization}`);
  const request = tab.trail.find((url) => url.startsWith(`${PROVIDER}/oauth2/auth?`)) ?? 'about:blank';
  is(new URL(request).searchParams.get('organization_id'), organization, 'connect: organization_id reaches the provider');
  await settle(tab);
  is(tab.url, `${APP}/books/b`, 'connect: ends on the page named by return');
  is(tab.status, 200, 'connect: signed in');
}

async function connectStaysHome(visitor) {
  const tab = await visitor.open();
  const strayed = [];
  tab.page.on('request', (request) => {
    const { origin } = new URL(request.url());
    if (origin !== APP && origin !== PROVIDER) strayed.push(request.url());
  });
  for (const target of ['https://evil.example/', '//evil.example/', '/\\evil.example/', '/\t/evil.example/']) {
    await tab.go(`/qonto/connect?return=${encodeURIComponent(target)}`);
    await settle(tab);
    is(tab.origin, APP, `connect: return=${JSON.stringify(target)} stays at home`);
  }
  is(strayed.join('\n'), '', 'connect: the browser never asked another host');
}

async function otherHostName(visitor) {
  const tab = await visitor.open();
  await tab.go(`${APP.replace('127.0.0.1', 'localhost')}/books/other?host=1`);
  await settle(tab);
  is(tab.url, `${APP}/books/other?host=1`, "a visitor by another host name ends on the redirect URI's host");
  is(tab.status, 200, 'and is signed in there');
}

async function onlyOAuthPaths() {
  const { otherPaths } = await count();
  is(otherPaths.join('\n'), '', 'the module asked the provider for nothing but authorize, token and revoke');
}

const SCENARIOS = [
  firstVisit, staysSignedIn, browserCookies, tenTabs, fetchWithoutSession, accessRefused, logOut,
  survivesKill, staysLongerThanToken, connect, connectStaysHome, otherHostName, onlyOAuthPaths,
];

// What a person would see where a scenario broke off.
async function describe(page, name) {
  const text = await page.innerText('body').catch((error) => error.message);
  for (const line of [`open: ${page.url()}`, ...text.split('\n').slice(0, 15)]) console.log(`#   ${line}`);
  await new Tab(page).shot(`${name}-failed`).catch(() => {});
}

async function run(browser, scenario) {
  const contexts = [];
  const newVisitor = async () => {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE_MS);
    contexts.push(context);
    return new Visitor(context);
  };
  const visitor = await newVisitor();
  try {
    await scenario(visitor, newVisitor);
  } catch (error) {
    report(false, `${scenario.name} ran to its end`, error.message);
    for (const page of visitor.context.pages()) await describe(page, scenario.name);
  }
  await Promise.all(contexts.map((context) => context.close()));
}

const { chromium } = await load('playwright-core');
const launch = chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS, handleSIGTERM: false });
process.once('SIGTERM', async () => {
  await (await launch).close(); // waits until Chromium is gone and has stopped writing into the folder e2e.t removes
  process.exit(1);
});
const browser = await launch;
try {
  for (const scenario of SCENARIOS) await run(browser, scenario);
} finally {
  await browser.close();
}
process.exit(failures ? 1 : 0);
