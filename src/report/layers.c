/* A line for each palettized weight, a picture of its values, and the list of those left alone. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "report/charts.h"
#include "report/html.h"
#include "report/sections.h"

/* ---------------------------------------------------------------- switches */

static void switch_begin(file_writer *out, const char *what, size_t number, size_t count)
{
    html_put(out, "<div class=\"long\">");
    if (count > SHOWN_AT_FIRST)
        html_format(out, "<input type=\"checkbox\" class=\"more\" id=\"all-%s-%zu\">", what,
                    number);
}

static void switch_end(file_writer *out, const char *what, size_t number, size_t count)
{
    if (count > SHOWN_AT_FIRST)
        html_format(out,
                    "<label for=\"all-%s-%zu\"><span class=\"closed\">Show all %zu</span>"
                    "<span class=\"open\">Show the first %d</span></label>",
                    what, number, count, (int)SHOWN_AT_FIRST);
    html_put(out, "</div>");
}

/* ---------------------------------------------------------------- layers */

static void show_what(file_writer *out, const page_weight *weight)
{
    html_put(out, "<div class=\"what\">");
    html_name(out, weight->name);
    html_put(out, "<small>");
    html_text(out, weight->op);
    html_put(out, *weight->op ? " " : "");
    html_text(out, weight->shape);
    if (weight->tables > 1)
        html_format(out, ", %.0f tables", weight->tables);
    if (*weight->reason) {
        html_put(out, "; ");
        html_text(out, weight->reason);
    }
    html_put(out, "</small></div>");
}

/* The gauge is full at the 48 dB that 8 bits reach. */
static void show_psnr(file_writer *out, double psnr)
{
    enum { FULL = 48 };
    html_put(out, "<div>");
    if (isinf(psnr)) {
        html_put(out, "exact");
    } else {
        html_decimals(out, psnr, 1);
        html_put(out, " dB");
    }
    const double part = isnan(psnr) ? 0 : fmin(fmax(psnr / FULL, 0), 1);
    html_format(out, "<div class=\"gauge\"><i style=\"width:%.0f%%\"></i></div></div>", 100 * part);
}

static void show_layer(file_writer *out, const page_run *run, const page_weight *weight,
                       double largest)
{
    const double part = largest > 0 ? 100 / largest : 0;
    html_format(out, "<li data-place=\"%td\" data-bytes=\"%.0f\" data-psnr=\"%g\">",
                weight - run->weights, weight->bytes_before,
                isfinite(weight->psnr) ? weight->psnr : 1e9);
    show_what(out, weight);
    html_format(out,
                "<div class=\"bar\"><i class=\"was\" style=\"width:%.2f%%\"></i>"
                "<i class=\"palettized\" style=\"width:%.2f%%\"></i></div>",
                weight->bytes_before * part, weight->bytes_after * part);
    html_format(out, "<div>%u&nbsp;bit</div><div>", weight->nbits);
    html_bytes(out, weight->bytes_after);
    html_put(out, "<small>of ");
    html_bytes(out, weight->bytes_before);
    html_put(out, "</small></div>");
    show_psnr(out, weight->psnr);
    html_put(out, "</li>");
}

static int larger_first(const void *a, const void *b)
{
    const page_weight *x = *(const page_weight *const *)a, *y = *(const page_weight *const *)b;
    if (x->bytes_before != y->bytes_before)
        return x->bytes_before > y->bytes_before ? -1 : 1;
    return (x > y) - (x < y);
}

/* Where not all layers are shown at first, the largest are. */
static pal_status show_palettized(file_writer *out, const page_run *run, size_t number,
                                  size_t count)
{
    const bool by_size = count > SHOWN_AT_FIRST;
    const page_weight **order = mem_array(count, sizeof *order);
    if (!order)
        return fail_memory("making a report");
    double largest = 0;
    for (size_t i = 0, n = 0; i < run->weight_count; i++)
        if (run->weights[i].palettized) {
            order[n++] = &run->weights[i];
            largest = fmax(largest, run->weights[i].bytes_before);
        }
    if (by_size)
        qsort(order, count, sizeof *order, larger_first);
    html_put(out, "<h2>Layers</h2>");
    switch_begin(out, "layers", number, count);
    html_format(out,
                "<div class=\"toolbar\" hidden><span class=\"soft\">Order</span>"
                "<button type=\"button\" data-by=\"place\" aria-pressed=\"%s\">as in the model"
                "</button><button type=\"button\" data-by=\"bytes\" aria-pressed=\"%s\">largest "
                "first</button><button type=\"button\" data-by=\"psnr\" aria-pressed=\"false\">"
                "worst PSNR first</button></div><ul class=\"layers items card\">",
                by_size ? "false" : "true", by_size ? "true" : "false");
    for (size_t i = 0; i < count; i++)
        show_layer(out, run, order[i], largest);
    html_put(out, "</ul>");
    switch_end(out, "layers", number, count);
    free(order);
    return PAL_OK;
}

/* ---------------------------------------------------------------- pictures */

static void show_picture(file_writer *out, const page_weight *weight)
{
    const page_histogram *h = &weight->histogram;
    html_put(out, "<figure class=\"card\"><figcaption>");
    html_name(out, weight->name);
    html_format(out, "<br><span class=\"soft\">%u bit", weight->nbits);
    if (weight->tables > 1)
        html_format(out, ", %.0f tables", weight->tables);
    if (h->below + h->above > 0)
        html_format(out, ", %.0f value%s beyond the edges", h->below + h->above,
                    h->below + h->above == 1 ? "" : "s");
    if (!h->entry_count)
        html_put(out, ", tables hold values divided by a scale for each channel");
    html_put(out, "</span></figcaption>");
    chart_histogram(out, h);
    html_put(out, "</figure>");
}

static void show_pictures(file_writer *out, const page_run *run, size_t number)
{
    size_t count = 0;
    for (size_t i = 0; i < run->weight_count; i++)
        count += run->weights[i].palettized && run->weights[i].histogram.bins;
    if (!count)
        return;
    html_put(out, "<h2>Weights and their look-up tables</h2><p class=\"soft\">How often each value "
                  "occurs; a line for each entry of the tables.</p>");
    switch_begin(out, "pictures", number, count);
    html_put(out, "<div class=\"gallery items\">");
    for (size_t i = 0; i < run->weight_count; i++)
        if (run->weights[i].palettized && run->weights[i].histogram.bins)
            show_picture(out, &run->weights[i]);
    html_put(out, "</div>");
    switch_end(out, "pictures", number, count);
}

/* ---------------------------------------------------------------- left alone */

static void show_left(file_writer *out, const page_run *run, size_t count)
{
    double bytes = 0;
    for (size_t i = 0; i < run->weight_count; i++)
        if (!run->weights[i].palettized)
            bytes += run->weights[i].bytes_after;
    html_format(out, "<details class=\"card\"><summary>%zu weight%s left as %s (", count,
                count == 1 ? "" : "s", count == 1 ? "it is" : "they are");
    html_bytes(out, bytes);
    html_put(out, ")</summary><div class=\"scroll\"><table><thead><tr><th>weight</th>"
                  "<th>operator</th><th>shape</th><th "
                  "class=\"n\">bytes</th><th>why</th></tr></thead><tbody>");
    for (size_t i = 0; i < run->weight_count; i++) {
        const page_weight *weight = &run->weights[i];
        if (weight->palettized)
            continue;
        html_put(out, "<tr><td>");
        html_name(out, weight->name);
        html_put(out, "</td><td>");
        html_text(out, weight->op);
        html_put(out, "</td><td>");
        html_text(out, weight->shape);
        html_put(out, "</td><td class=\"n\">");
        html_bytes(out, weight->bytes_after);
        html_put(out, "</td><td>");
        html_text(out, weight->reason);
        html_put(out, "</td></tr>");
    }
    html_put(out, "</tbody></table></div></details>");
}

pal_status show_layers(file_writer *out, const page_run *run, size_t number)
{
    pal_status status = PAL_OK;
    size_t palettized = 0;
    for (size_t i = 0; i < run->weight_count; i++)
        palettized += run->weights[i].palettized;
    if (palettized)
        status = show_palettized(out, run, number, palettized);
    if (palettized < run->weight_count)
        show_left(out, run, run->weight_count - palettized);
    show_pictures(out, run, number);
    return status;
}
