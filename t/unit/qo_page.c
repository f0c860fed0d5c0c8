/* Pages: nothing from outside can leave its place. */
#include "qo_page.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <strings.h>

static apr_pool_t *pool;

#define EVIL "a<script>alert(1)</script>\"'&amp;\x01\x7f\xc3\xa9\r\n--><!--{}"

static void check_escape(void)
{
    int wrong = 0;

    for (int c = 1; c < 256; c++) {
        char text[] = {'x', (char)c, 'y', '\0'};
        const char *got = qo_page_escape(pool, text);

        if (strchr("&<>\"'", c) != NULL) {
            wrong += got[0] != 'x' || got[1] != '&' || strchr(got, ';') == NULL ||
                     strpbrk(got + 2, "&<>\"'") != NULL || got[strlen(got) - 1] != 'y';
        } else if (c < 0x20 || c > 0x7e) {
            wrong += strcmp(got, "x?y") != 0;
        } else {
            wrong += strcmp(got, text) != 0;
        }
    }
    tap_int(wrong, 0, "five characters escaped, what is not printable ASCII is ?");
    tap_is(qo_page_escape(pool, ""), "", "nothing stays nothing");
    tap_is(qo_page_escape(pool, "&<>"), "&amp;&lt;&gt;", "as HTML writes them");
    const char *got = qo_page_escape(pool, "&amp;");
    tap_is(got, "&amp;amp;", "what looks escaped is escaped again");
}

static int count(const char *text, const char *what)
{
    int found = 0;

    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        found++;
    }
    return found;
}

static bool plain_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c > 0x7e || (c < 0x20 && c != '\n')) {
            return false;
        }
    }
    return true;
}

/* Is every tag of the document one of a few, and closed? */
static bool known_tags(const char *html)
{
    static const char known[] = " !doctype html head meta title style body main div header "
                                "footer section article h1 h2 "
                                "p small a form button input span strong em code br hr ";
    for (const char *at = strchr(html, '<'); at != NULL; at = strchr(at + 1, '<')) {
        char name[20] = " ";
        size_t len = strcspn(at + 1 + (at[1] == '/'), " >\n/");
        const char *end = strpbrk(at + 1, "<>");

        if (len == 0 || len > 12 || end == NULL || *end != '>') {
            return false;
        }
        memcpy(name + 1, at + 1 + (at[1] == '/'), len);
        name[len + 1] = ' ';
        name[len + 2] = '\0';
        for (char *c = name; *c != '\0'; c++) {
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
        }
        if (strstr(known, name) == NULL) {
            printf("#  %s\n", name);
            return false;
        }
    }
    return true;
}

/* No place that makes a browser run or fetch something. */
static bool harmless(const char *html)
{
    static const char *const evil[] = {"<script",
                                       "src=",
                                       "url(",
                                       "@import",
                                       "<link",
                                       "<iframe",
                                       "<img",
                                       "<svg",
                                       "<object",
                                       "javascript:",
                                       " on",
                                       "<base",
                                       "http-equiv=\"refresh\""};

    for (size_t i = 0; i < sizeof evil / sizeof *evil; i++) {
        const char *at = strcasestr(html, evil[i]);

        /* " on" is a word as well; only as an attribute it runs something */
        while (at != NULL && strcmp(evil[i], " on") == 0 &&
               at[3 + strspn(at + 3, "abcdefghijklmnopqrstuvwxyz")] != '=') {
            at = strcasestr(at + 1, evil[i]);
        }
        if (at != NULL) {
            printf("#   %s\n", evil[i]);
            return false;
        }
    }
    return true;
}

static void check_document(const char *html, const char *what)
{
    tap_ok(strncasecmp(html, "<!doctype html>", 15) == 0 && strstr(html, "</html>") != NULL,
           "%s: a complete document", what);
    tap_ok(plain_ascii(html), "%s: ASCII", what);
    tap_ok(known_tags(html), "%s: only tags that pages need", what);
    tap_ok(harmless(html), "%s: no script, nothing loaded", what);
}

static void check_plain(void)
{
    qo_page_t page;

    memset(&page, 0, sizeof page);
    page.title = "Sign in";
    page.text = "Please connect with Qonto.";
    const char *html = qo_page_html(pool, &page);
    check_document(html, "two words");
    tap_ok(strstr(html, "<title>Sign in") != NULL && strstr(html, page.text) != NULL,
           "title and text are there");
    tap_ok(count(html, "<a ") == 0 && count(html, "<form") == 0, "no link, no way on");
    tap_ok(strstr(html, "(null)") == NULL, "what is left out leaves no trace");
}

static void check_full(void)
{
    qo_page_t page = {
        "Title",     "Some text.", "small print", "QO0031-abc", "/qonto/connect?a=b&c",
        "Try again", false,        false};
    const char *html = qo_page_html(pool, &page);

    check_document(html, "everything");
    tap_ok(strstr(html, "small print") != NULL && strstr(html, "QO0031-abc") != NULL &&
               strstr(html, "Try again") != NULL,
           "all is shown");
    tap_ok(strstr(html, "href=\"/qonto/connect?a=b&amp;c\"") != NULL &&
               !count(html, "<form"),
           "the way on is a link");

    page.post = true;
    html = qo_page_html(pool, &page);
    check_document(html, "a form");
    tap_ok(strstr(html, "action=\"/qonto/connect?a=b&amp;c\"") != NULL &&
               strcasestr(html, "method=\"post\"") != NULL && !count(html, "<a "),
           "or a form that posts");
    tap_ok(count(html, "<form") == 1 && count(html, "</form>") == 1 &&
               strstr(html, "<button") != NULL,
           "with a button");

    page.post = false;
    const char *link = qo_page_html(pool, &page);
    page.provider = true;
    const char *button = qo_page_html(pool, &page);
    check_document(button, "Qonto's button");
    tap_ok(strcmp(link, button) != 0, "which looks like another way on");
}

/* The same page with and without evil in one field has the same tags. */
static int tags(const char *html)
{
    return count(html, "<") * 1000 + count(html, "\"") * 10 + count(html, "'");
}

static void check_evil(void)
{
    for (int field = 0; field < 6; field++) {
        for (int post = 0; post < 2; post++) {
            qo_page_t page = {"t", "x", "d", "r", "/l", "b", post == 1, false};
            const char *before = qo_page_html(pool, &page);
            const char **fields[] = {&page.title,     &page.text, &page.detail,
                                     &page.reference, &page.link, &page.label};

            *fields[field] = EVIL;
            const char *html = qo_page_html(pool, &page);
            tap_ok(tags(html) == tags(before) && plain_ascii(html) && harmless(html) &&
                       strstr(html, "--><!--") == NULL,
                   "evil in field %d stays text", field);
        }
    }
}

static void check_absent(void)
{
    for (unsigned set = 0; set < 64; set++) {
        qo_page_t page = {"t",
                          "x",
                          set & 1 ? "DETAIL" : NULL,
                          set & 2 ? "REF" : NULL,
                          set & 4 ? "/LINK" : NULL,
                          set & 8 ? "LABEL" : NULL,
                          (set & 16) != 0,
                          (set & 32) != 0};
        if (page.link != NULL && page.label == NULL) {
            continue;
        }
        const char *html = qo_page_html(pool, &page);
        bool good = (strstr(html, "DETAIL") != NULL) == ((set & 1) != 0) &&
                    (strstr(html, "REF") != NULL) == ((set & 2) != 0) &&
                    (strstr(html, "/LINK") != NULL) == ((set & 4) != 0) &&
                    strstr(html, "(null)") == NULL && known_tags(html) && harmless(html);
        if (!good) {
            tap_ok(false, "what is there is shown, set %u", set);
            return;
        }
    }
    tap_ok(true, "what is there is shown, what is not is not");
}

static void check_long(void)
{
    char *text = apr_palloc(pool, 100001);
    qo_page_t page = {"t", "x", NULL, NULL, NULL, NULL, false, false};

    memset(text, '<', 100000);
    text[100000] = '\0';
    page.detail = text;
    const char *html = qo_page_html(pool, &page);
    tap_ok(count(html, "&lt;") == 100000, "100000 brackets are escaped");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_escape();
    check_plain();
    check_full();
    check_evil();
    check_absent();
    check_long();
    tap_is(QO_PAGE_CSP,
           "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
           "base-uri 'none'; frame-ancestors 'none'",
           "the policy allows the pages' own style and forms, nothing else");
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
