#include "qo_page.h"

#include <apr_strings.h>

#include <string.h>

static const char STYLE[] =
    ":root{color-scheme:light dark;--ink:#1d1d1b;--soft:#5c5c58;--paper:#f4f3ef;"
    "--card:#fff;--line:#dedcd4;--main:#1d1d1b;--onmain:#fff;--focus:#6b5aed}"
    "@media(prefers-color-scheme:dark){:root{--ink:#f2f1ec;--soft:#a9a8a1;--paper:#151514;"
    "--card:#20201e;--line:#3a3a36;--main:#f2f1ec;--onmain:#1d1d1b;--focus:#a79bff}}"
    "*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:"
    "center;"
    "padding:1.5rem;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,"
    "-apple-system,'Segoe UI',Roboto,sans-serif}main{width:100%;max-width:30rem;"
    "background:var(--card);border:1px solid "
    "var(--line);border-radius:1rem;padding:2.25rem}"
    "h1{margin:0 0 .75rem;font-size:1.45rem;line-height:1.25;letter-spacing:-.01em}"
    "p{margin:0 0 1rem}.soft{color:var(--soft);font-size:.9rem;overflow-wrap:anywhere}"
    ".go{display:inline-block;margin:.5rem 0 1.25rem;padding:.75rem 1.35rem;border:0;"
    "border-radius:.6rem;background:var(--main);color:var(--onmain);font:inherit;"
    "font-weight:600;text-decoration:none;cursor:pointer}.go.wide{display:block;"
    "text-align:center}:focus-visible{outline:3px solid var(--focus);outline-offset:3px}"
    "p:last-child{margin-bottom:0}";

static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

const char *qo_page_escape(apr_pool_t *p, const char *text)
{
    char *out = apr_palloc(p, strlen(text) * strlen("&quot;") + 1);
    char *to = out;

    for (; *text != '\0'; text++) {
        const char *escaped = entity(*text);

        if (escaped != NULL) {
            to = apr_cpystrn(to, escaped, strlen(escaped) + 1);
        } else {
            *to++ = (char)(*text < 0x20 || *text > 0x7e ? '?' : *text);
        }
    }
    *to = '\0';
    return out;
}

static const char *way_on(apr_pool_t *p, const qo_page_t *page)
{
    const char *link;
    const char *label;

    if (page->link == NULL) {
        return "";
    }
    link = qo_page_escape(p, page->link);
    label = qo_page_escape(p, page->label);
    if (page->post) {
        return apr_pstrcat(p, "<form method=\"post\" action=\"", link,
                           "\"><button class=\"go\">", label, "</button></form>\n", NULL);
    }
    return apr_pstrcat(p, "<p><a class=\"go", page->provider ? " wide" : "", "\" href=\"",
                       link, "\">", label, "</a></p>\n", NULL);
}

static const char *small_print(apr_pool_t *p, const char *before, const char *text)
{
    return text == NULL ? ""
                        : apr_pstrcat(p, "<p class=\"soft\">", before,
                                      qo_page_escape(p, text), "</p>\n", NULL);
}

const char *qo_page_html(apr_pool_t *p, const qo_page_t *page)
{
    const char *title = qo_page_escape(p, page->title);

    return apr_pstrcat(
        p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
        "<meta name=\"robots\" content=\"noindex\">\n<title>", title, "</title>\n<style>",
        STYLE, "</style>\n</head>\n<body>\n<main>\n<h1>", title, "</h1>\n<p>",
        qo_page_escape(p, page->text), "</p>\n",
        small_print(p, "Qonto says: ", page->detail), way_on(p, page),
        small_print(p, "Reference: ", page->reference), "</main>\n</body>\n</html>\n",
        NULL);
}
