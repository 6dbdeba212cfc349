#include "method/train/checkpoint.h"

#include <string.h>

#include "base/draw.h"
#include "base/file.h"

typedef struct header {
    char magic[8];
    uint64_t version;
    uint64_t fingerprint;
    uint64_t bytes; /* of the pieces together */
} header;

static const char magic[8] = {'P', 'A', 'L', 'T', 'R', 'A', 'I', 'N'};
enum { VERSION = 2 };

uint64_t checkpoint_sum(uint64_t sum, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        sum = draw(sum, word);
    }
    for (; bytes; bytes--, at++)
        sum = draw(sum, *at);
    return sum;
}

static uint64_t total(const state_piece *pieces, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += pieces[i].bytes;
    return bytes;
}

pal_status checkpoint_write(const char *path, uint64_t fingerprint, const state_piece *pieces,
                            size_t count)
{
    header head = {.version = VERSION, .fingerprint = fingerprint, .bytes = total(pieces, count)};
    staged_output stage;
    file_writer writer;
    memcpy(head.magic, magic, sizeof magic);
    pal_status status = stage_file(&stage, path);
    if (status)
        return status;
    status = writer_open(&writer, stage.temporary);
    if (!status) {
        uint64_t sum = checkpoint_sum(0, &head, sizeof head);
        writer_write(&writer, &head, sizeof head);
        for (size_t i = 0; i < count; i++) {
            writer_write(&writer, pieces[i].data, pieces[i].bytes);
            sum = checkpoint_sum(sum, pieces[i].data, pieces[i].bytes);
        }
        writer_write(&writer, &sum, sizeof sum);
        status = writer_close(&writer);
    }
    if (status) {
        stage_abandon(&stage);
        return status;
    }
    return stage_commit(&stage);
}

static pal_status check(const char *path, const file_map *map, uint64_t fingerprint, uint64_t bytes)
{
    header head;
    const size_t sum = sizeof(uint64_t);
    if (map->size < sizeof head + sum)
        return fail(PAL_ERROR_FORMAT, "%s: too short for a checkpoint", path);
    memcpy(&head, map->data, sizeof head);
    if (memcmp(head.magic, magic, sizeof magic) != 0)
        return fail(PAL_ERROR_FORMAT, "%s: not a checkpoint of training", path);
    if (head.version != VERSION)
        return fail(PAL_ERROR_UNSUPPORTED, "%s: a checkpoint of version %llu; this one reads %d",
                    path, (unsigned long long)head.version, VERSION);
    if (head.bytes != map->size - sizeof head - sum)
        return fail(PAL_ERROR_FORMAT, "%s: is cut off", path);
    if (head.fingerprint != fingerprint || head.bytes != bytes)
        return fail(PAL_ERROR_ARGUMENT,
                    "%s: is of another run: model, data and options must be the same", path);
    return PAL_OK;
}

pal_status checkpoint_read(const char *path, uint64_t fingerprint, const state_piece *pieces,
                           size_t count)
{
    file_map map;
    pal_status status = file_map_open(path, &map);
    if (status)
        return status;
    status = check(path, &map, fingerprint, total(pieces, count));
    if (!status) {
        const unsigned char *at = map.data + sizeof(header);
        uint64_t sum = checkpoint_sum(0, map.data, sizeof(header)), stored;
        for (size_t i = 0; i < count; at += pieces[i++].bytes)
            sum = checkpoint_sum(sum, at, pieces[i].bytes);
        memcpy(&stored, at, sizeof stored);
        if (sum != stored)
            status = fail(PAL_ERROR_FORMAT, "%s: its checksum does not fit: it is damaged", path);
    }
    const unsigned char *from = map.data + sizeof(header);
    for (size_t i = 0; !status && i < count; from += pieces[i++].bytes)
        if (pieces[i].bytes)
            memcpy(pieces[i].data, from, pieces[i].bytes);
    file_map_close(&map);
    return status;
}
