# buildah with the test bed's own store; sourced. chroot isolation works where containers may not be nested.
# shellcheck shell=bash
build_image() {
  BUILDAH_ISOLATION=chroot buildah --storage-driver overlay --root "$state/buildah/store" \
    --runroot "$state/buildah/run" "$@"
}
