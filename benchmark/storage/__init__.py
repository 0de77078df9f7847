"""Everything that lies on a disk: whole files, guarded reading, verified blobs, a memo, locks."""

from benchmark.storage.blobs import (
    DAMAGED_FOLDER,
    Memo,
    json_digest,
    load_arrays,
    load_json,
    set_aside,
    write_arrays,
    write_json,
)
from benchmark.storage.copies import (
    LIMIT_VARIABLE,
    MOST_FETCHED_BYTES,
    fetch_copy,
    hand_over,
    keep_copy,
    limit_bytes,
    notes_of,
    take_back,
    take_over,
)
from benchmark.storage.files import (
    NO_ROOM,
    OF_ONE_PROCESS,
    TEMPORARY_PREFIX,
    check_inside,
    dead_temporaries,
    is_abandoned,
    is_temporary,
    path_part,
    place,
    storage_error,
    sync_folder,
    temporary_beside,
    this_process,
    write_whole,
)
from benchmark.storage.locks import lock_folder
from benchmark.storage.reading import (
    MOST_LIST_BYTES,
    MOST_MODEL_BYTES,
    MOST_SMALL_BYTES,
    is_sha256,
    open_regular,
    parse_json,
    parse_record,
    read_json,
    read_small,
    sha256_bytes,
    sha256_file,
)
from benchmark.storage.remote import RemoteFile, RemoteStorage
from benchmark.storage.sweep import (
    STAMP_FILE,
    Removed,
    Stored,
    mark_used,
    remove_all,
    remove_leftovers,
    replace_folder,
    shrink,
)
