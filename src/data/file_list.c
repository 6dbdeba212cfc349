#include "data/file_list.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/scratch.h"
#include "data/image.h"

enum { MAX_DEPTH = 32 };

bool file_is_hidden(const char *name)
{
    return name[0] == '.' || strcmp(name, "__MACOSX") == 0;
}

pal_status file_list_add(file_list *list, const char *name, bool directory)
{
    const char *copy = arena_copy(&list->names, name, strlen(name));
    if (!copy ||
        !mem_grow((void **)&list->entries, &list->capacity, list->count + 1, sizeof *list->entries))
        return fail_memory("listing files");
    list->entries[list->count] =
        (file_entry){.name = copy, .directory = directory, .order = list->count};
    list->count++;
    return PAL_OK;
}

void file_list_free(file_list *list)
{
    for (size_t i = 0; i < list->block_count; i++)
        scratch_free(list->blocks[i]);
    free(list->blocks);
    free(list->entries);
    arena_free(&list->names);
    file_map_close(&list->map);
    *list = (file_list){0};
}

/* ---------------------------------------------------------------- folders */

typedef struct walk {
    file_list *list;
    const char *path;     /* of the folder */
    const char *relative; /* of the folder to the root; "" for the root */
    int depth;
} walk;

static pal_status visit(void *user, const char *name)
{
    const walk *above = user;
    if (file_is_hidden(name))
        return PAL_OK;
    char *path = path_join(above->path, name);
    char *relative = *above->relative ? path_join(above->relative, name) : strdup(name);
    pal_status status = PAL_OK;
    struct stat info;
    if (!path || !relative) {
        status = fail_memory("listing files");
    } else if (is_image_name(name) || stat(path, &info) < 0 || !S_ISDIR(info.st_mode)) {
        status = file_list_add(above->list, relative, false);
    } else if (above->depth == MAX_DEPTH) { /* as a link to a folder above it would make */
        status = fail(PAL_ERROR_FORMAT, "%s: folders nested too deeply", path);
    } else {
        walk below = {above->list, path, relative, above->depth + 1};
        status = file_list_add(above->list, relative, true);
        if (!status)
            status = directory_walk(path, visit, &below);
    }
    free(path);
    free(relative);
    return status;
}

pal_status list_folder(const char *path, file_list *out)
{
    *out = (file_list){0};
    arena_init(&out->names, SIZE_MAX / 2);
    pal_status status = directory_walk(path, visit, &(walk){out, path, "", 0});
    if (status)
        file_list_free(out);
    return status;
}
