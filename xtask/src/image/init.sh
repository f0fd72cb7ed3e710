#!/bin/busybox sh
# The whole of the trial guest: finds what its first boot was given, says who it
# is, and leaves a shell on the serial console. The power button shuts it down.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in virtio_pci virtio_blk vfat nls_cp437 nls_iso8859-1 nls_ascii \
    virtio_net button evdev; do
    modprobe "$module"
done

# cloud-init's NoCloud disk, told by what is on it.
for disk in /dev/vd*; do
    mount -t vfat -o ro "$disk" /seed 2> /dev/null || continue
    [ -e /seed/meta-data ] && break
    umount /seed
done
name=$(sed -n 's/^local-hostname: *//p' /seed/meta-data 2> /dev/null)
hostname "${name:-nameless}"

# The power button, for as long as this guest lives.
acpid -d > /dev/null 2>&1 &

if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    udhcpc -i eth0 -q -n -t 5 -s /etc/dhcp.sh > /dev/null 2>&1
fi
echo "This is $(hostname), a trial guest with Linux $(uname -r)."
ip -4 -o address show dev eth0 2> /dev/null |
    awk '{ print "Its address is " $4 "." }'
# As cloud-init does with user data that is a script.
if [ "$(head -c 2 /seed/user-data 2> /dev/null)" = '#!' ]; then
    cp /seed/user-data /run/user-data
    chmod +x /run/user-data
    /run/user-data
fi
while true; do
    setsid cttyhack sh
done
