# Makes the raw image $1 of the scripts beside it, in the directory where this
# runs: a FAT file system that SYSLINUX boots, with a kernel and an initial RAM
# disk of BusyBox. Everything comes out of Debian's packages, which are unpacked
# here and not installed.
image=$1
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2> /dev/null |
        sed -n 's/.*Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' |
        head -n 1
}
unpack() {
    for package in "$(kernel_package)" busybox-static syslinux mtools; do
        rm -f "${package}"_*.deb
        apt-get download -q -o APT::Sandbox::User=root "$package" \
            > /dev/null || return 1
        dpkg-deb -x "${package}"_*.deb root
    done
}
rm -rf root initrd
mkdir root
# What apt knows may be nothing yet, or too old.
unpack 2> /dev/null || { apt-get update -q > /dev/null && unpack; }
# Debian may have moved /bin into /usr/bin.
busybox=$PWD/root/usr/bin/busybox
[ -e "$busybox" ] || busybox=$PWD/root/bin/busybox
[ -e root/lib/modules ] || ln -s usr/lib root/lib
version=$(ls root/lib/modules)
modules=root/lib/modules/$version

mkdir -p initrd/bin initrd/proc initrd/sys initrd/dev initrd/seed initrd/run \
    initrd/etc/acpi/PWRF "initrd/lib/modules/$version"
cp "$busybox" initrd/bin/busybox
cp init.sh initrd/init
cp dhcp.sh initrd/etc/dhcp.sh
printf '#!/bin/sh\necho "Powering down."\nsync\npoweroff -f\n' \
    > initrd/etc/acpi/PWRF/00000080
chmod +x initrd/init initrd/etc/dhcp.sh initrd/etc/acpi/PWRF/00000080
# Only the modules that init.sh asks for, and those that they need.
"$busybox" depmod -b root "$version"
for module in virtio_pci virtio_blk vfat nls_cp437 nls_iso8859-1 nls_ascii \
    virtio_net button evdev; do
    grep -E "/$module\.ko[^ ]*:" "$modules/modules.dep" | tr -d ':' |
        tr ' ' '\n'
done | sort -u | while read -r file; do
    mkdir -p "initrd/lib/modules/$version/$(dirname "$file")"
    cp "$modules/$file" "initrd/lib/modules/$version/$file"
done
cp "$modules/modules.builtin" "$modules/modules.order" \
    "initrd/lib/modules/$version/"
"$busybox" depmod -b "$PWD/initrd" "$version"
(cd initrd && find . | "$busybox" cpio -o -H newc 2> /dev/null) |
    gzip -9 > initrd.gz

cat > syslinux.cfg <<'END'
SERIAL 0 115200
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd.gz
  APPEND console=ttyS0 quiet panic=-1
END
export PATH="$PWD/root/usr/bin:$PATH" MTOOLS_SKIP_CHECK=1
rm -f image.raw
truncate -s 48M image.raw
mformat -i image.raw -v TRIAL -T $((48 * 2048)) -h 64 -s 32 ::
syslinux -i image.raw
mcopy -i image.raw syslinux.cfg initrd.gz ::
mcopy -i image.raw "root/boot/vmlinuz-$version" ::vmlinuz
# Disks come in whole GiB; the rest is a hole.
truncate -s 1G image.raw
mv image.raw "$image"
rm -rf root initrd initrd.gz syslinux.cfg ./*.deb
